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

  const vm = await xapi.call('VM.clone', Object.values(xapi.objects.indexes.type.VM).find(_ => _.is_a_template)?.$ref ??
    Object.values(xapi.objects.indexes.type.VM).find(_ => _.power_state === 'Halted').$ref, 'moved')
  const xva = await bytes(await xapi.getResource('/export/', { query: { ref: vm, use_compression: 'true' } }))
  const result = await xapi.putResource(pieces(xva), '/import/', { query: { sr_id: sr }, task: true })
  const [copy] = [result].flat(2)
  assert.equal(await xapi.getField('VM', copy, 'name_label'), 'moved')
  await xapi.disconnect()
}, true)
