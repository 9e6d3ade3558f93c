// backup.mjs - what a backup program does with a disk: a full copy over NBD with TLS, then only the blocks that changed
// between two snapshots, with the NBD client that Xen Orchestra uses.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import NbdClient from '@vates/nbd-client'
import MultiNbdClient from '@vates/nbd-client/multi.mjs'
import { client, run } from './common.mjs'

const MIB = 1024 * 1024
const SIZE = 8 * MIB
const BLOCK = 64 * 1024 // of list_changed_blocks

await run(async () => {
  const xapi = client()
  await xapi.connect()
  await xapi.objectsFetched
  const [network] = await xapi.call('network.get_all')
  await xapi.call('network.add_purpose', network, 'nbd')

  const vdi = await xapi.call('VDI.create', {
    name_label: 'saved', SR: xapi.pool.default_SR, virtual_size: SIZE, type: 'user', sharable: false, read_only: false,
    other_config: {}, sm_config: {},
  })
  const put = data => xapi.putResource(data, '/import_raw_vdi/', { query: { format: 'raw', vdi }, task: true })
  const nbdInfo = async ref => {
    const infos = await xapi.call('VDI.get_nbd_info', ref)
    assert.ok(infos.length > 0, 'the disk is offered')
    // The first is an address of a network, which the build machine may not route: the test's server listens on loopback.
    return infos.map(({ address, ...info }) => ({ address: '127.0.0.1', ...info }))
  }

  const data = randomBytes(SIZE)
  await put(data)
  await xapi.call('VDI.enable_cbt', vdi)
  const first = await xapi.call('VDI.snapshot', vdi, {})

  const many = new MultiNbdClient(await nbdInfo(first), { nbdConcurrency: 2, readAhead: 4 })
  await many.connect()
  assert.equal(many.exportSize, BigInt(SIZE))
  const copy = Buffer.concat(await Promise.all([...Array(SIZE / MIB).keys()].map(i => many.readBlock(i, MIB))))
  assert.ok(data.equals(copy), 'the full copy')
  await many.disconnect()

  const changed = Buffer.from(data)
  randomBytes(3 * BLOCK).copy(changed, 5 * MIB)
  await put(changed)
  const second = await xapi.call('VDI.snapshot', vdi, {})
  const bitmap = Buffer.from(await xapi.call('VDI.list_changed_blocks', first, second), 'base64')
  assert.equal(bitmap.length, SIZE / BLOCK / 8)
  const blocks = [...Array(SIZE / BLOCK).keys()].filter(i => bitmap[i >> 3] & (0x80 >> (i & 7)))
  for (const i of [80, 81, 82]) {
    assert.ok(blocks.includes(i), `block ${i} has changed`)
  }

  const [info] = await nbdInfo(second)
  const one = new NbdClient(info)
  await one.connect()
  for (const i of blocks) {
    ;(await one.readBlock(i, BLOCK)).copy(copy, i * BLOCK)
  }
  await one.disconnect()
  assert.ok(changed.equals(copy), 'the copy with what changed')

  await xapi.call('VDI.data_destroy', first)
  assert.equal((await xapi.getField('VDI', first, 'type')), 'cbt_metadata')
  await xapi.disconnect()
}, true)
