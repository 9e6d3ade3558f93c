// transfer.mjs - disks and a whole VM up and down as Xen Orchestra moves them: putResource of bytes and of a stream
// whose length nobody knows, getResource, and what their tasks tell.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { client, run } from './common.mjs'

const MIB = 1024 * 1024

const bytes = async response => {
  const parts = []
  for await (const part of response.body ?? response) {
    parts.push(part)
  }
  return Buffer.concat(parts)
}

const pieces = data =>
  Readable.from(
    (function* () {
      for (let i = 0; i < data.length; i += 100000) {
        yield data.subarray(i, i + 100000)
      }
    })(),
    { objectMode: false }
  )

await run(async () => {
  const xapi = client()
  await xapi.connect()
  await xapi.objectsFetched
  const sr = xapi.pool.default_SR
  const vdi = await xapi.call('VDI.create', {
    name_label: 'moved', SR: sr, virtual_size: 5 * MIB, type: 'user', sharable: false, read_only: false,
    other_config: {}, sm_config: {},
  })
  const download = async () => bytes(await xapi.getResource('/export_raw_vdi/', { query: { format: 'raw', vdi } }))

  let data = randomBytes(5 * MIB)
  await xapi.putResource(data, '/import_raw_vdi/', { query: { format: 'raw', vdi }, task: true })
  assert.ok(data.equals(await download()), 'the bytes that were put')

  data = randomBytes(5 * MIB)
  await xapi.putResource(pieces(data), '/import_raw_vdi/', { query: { format: 'raw', vdi }, task: true })
  assert.ok(data.equals(await download()), 'the stream that was put')

  const vhd = await bytes(await xapi.getResource('/export_raw_vdi/', { query: { format: 'vhd', vdi } }))
  assert.equal(vhd.subarray(0, 8).toString(), 'conectix')

  // A difference to a snapshot, put onto a clone of the snapshot, and the same as a stream of qcow2.
  const snapshot = await xapi.call('VDI.snapshot', vdi, {})
  const changed = Buffer.from(data)
  randomBytes(70000).copy(changed, 3 * MIB)
  await xapi.putResource(changed, '/import_raw_vdi/', { query: { format: 'raw', vdi }, task: true })
  for (const format of ['vhd', 'qcow2']) {
    const delta = await bytes(await xapi.getResource('/export_raw_vdi/', { query: { base: snapshot, format, vdi } }))
    assert.ok(delta.length < 4 * MIB, `${format} holds more than the difference`)
    const clone = await xapi.call('VDI.clone', snapshot, {})
    await xapi.putResource(pieces(delta), '/import_raw_vdi/', { query: { format, vdi: clone }, task: true })
    const there = await bytes(await xapi.getResource('/export_raw_vdi/', { query: { format: 'raw', vdi: clone } }))
    assert.ok(changed.equals(there), `the difference as ${format}`)
  }

  const blob = await xapi.call('pool.create_new_blob', xapi.pool.$ref, 'note', 'text/plain', false)
  await xapi.putResource(Buffer.from('kept'), '/blob', { query: { ref: blob }, task: true })
  assert.equal((await bytes(await xapi.getResource('/blob', { query: { ref: blob } }))).toString(), 'kept')

  const dump = await bytes(await xapi.getResource('/pool/xmldbdump'))
  assert.match(dump.toString(), /<table name="VM">/)
  await xapi.putResource(dump, '/pool/xmldbdump', { query: { dry_run: true }, task: true })

  const stats = JSON.parse(await bytes(await xapi.getResource('/rrd_updates', {
    query: { cf: 'AVERAGE', host: 'true', interval: 5, json: 'true', start: Math.floor(Date.now() / 1000) - 60 },
  })))
  assert.equal(stats.meta.step, 5)

  const vm = await xapi.call('VM.clone', Object.values(xapi.objects.indexes.type.VM).find(_ => _.is_a_template)?.$ref ??
    Object.values(xapi.objects.indexes.type.VM).find(_ => _.power_state === 'Halted').$ref, 'moved')
  const xva = await bytes(await xapi.getResource('/export/', { query: { ref: vm, use_compression: 'true' } }))
  const result = await xapi.putResource(pieces(xva), '/import/', { query: { sr_id: sr }, task: true })
  const [copy] = [result].flat(2)
  assert.equal(await xapi.getField('VM', copy, 'name_label'), 'moved')
  await xapi.disconnect()
}, true)
