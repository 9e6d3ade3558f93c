// cache.mjs - connect, fill the cache with every class, follow what another client changes, barrier.
import assert from 'node:assert/strict'
import { client, run, until } from './common.mjs'

await run(async () => {
  const xapi = client()
  await xapi.connect()
  assert.match(xapi.sessionId, /^OpaqueRef:/)
  await xapi.objectsFetched

  // what the server lists is fetched, and each record has its class's shape
  const methods = await xapi._call('system.listMethods')
  const types = methods.filter(m => m.endsWith('.get_all_records')).map(m => m.slice(0, m.indexOf('.')))
  for (const type of ['VM', 'host', 'pool', 'SR', 'network', 'task', 'VM_metrics', 'PBD', 'PIF', 'SM', 'role']) {
    assert.ok(types.includes(type), type)
  }
  for (const type of types) {
    const records = await xapi.getAllRecords(type)
    const cached = Object.values(xapi.objects.indexes.type[type] ?? {})
    if (type !== 'task') {
      assert.equal(cached.length, records.length, type)
    }
    for (const record of records) {
      assert.deepEqual(Object.keys(record).sort(), Object.keys(records[0]).sort(), type)
    }
  }

  const vm = Object.values(xapi.objects.indexes.type.VM).find(_ => _.name_label === 'sim-00001')
  assert.equal(vm.$VIFs[0].$VM, vm)
  assert.equal(vm.$pool, xapi.pool)
  assert.equal(xapi.pool.$master.$type, 'host')
  assert.equal(xapi.getObjectByUuid(vm.uuid), vm)
  assert.equal(xapi.getObjectByRef(vm.$ref), vm)

  // changes of another client
  const other = client({ watchEvents: false })
  await other.connect()
  assert.notEqual(other.sessionId, xapi.sessionId)
  const updates = []
  xapi.objects.on('update', objects => updates.push(...Object.values(objects).map(_ => _.$ref)))
  await other.call('VM.set_name_description', vm.$ref, 'changed elsewhere')
  await until('an update', () => xapi.getObjectByRef(vm.$ref).name_description === 'changed elsewhere')
  assert.ok(updates.includes(vm.$ref))

  const clone = await other.call('VM.clone', vm.$ref, 'cloned elsewhere')
  await until('an addition', () => xapi.getObjectByRef(clone, null)?.name_label === 'cloned elsewhere')
  await other.call('VM.destroy', clone)
  await until('a removal', () => xapi.getObjectByRef(clone, null) === null)

  // records write their fields
  await vm.set_name_label('renamed')
  await vm.update_other_config('key', 'one')
  await vm.update_other_config('key', 'two')
  await vm.update_other_config({ key: 'three', more: 'x' })
  await vm.add_tags('tag')
  const now = await xapi.barrier(vm.$ref)
  assert.equal(now.name_label, 'renamed')
  assert.deepEqual(now.other_config, { key: 'three', more: 'x' })
  assert.deepEqual(now.tags, ['tag'])
  await now.update_other_config({ key: null, more: null, never: null })
  await now.remove_tags('tag')
  await now.set_name_label('sim-00001')
  assert.deepEqual(await xapi.getField('VM', vm.$ref, 'other_config'), {})
  assert.deepEqual(await xapi.getFieldByUuid('VM', vm.uuid, 'tags'), [])
  assert.equal((await xapi.getRecordByUuid('VM', vm.uuid)).name_label, 'sim-00001')
  assert.equal((await xapi.getRecord('host', xapi.pool.master)).$id, xapi.pool.$master.uuid)
  await xapi.setFields('VM', vm.$ref, { name_description: '', user_version: 3 })
  assert.equal(Number(await xapi.getField('VM', vm.$ref, 'user_version')), 3)
  await xapi.barrier()
  await until('no barriers', () => !Object.keys(xapi.pool.other_config).some(_ => _.startsWith('xo:barrier')))

  await other.disconnect()
  await xapi.disconnect()
})
