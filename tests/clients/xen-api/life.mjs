// life.mjs - a VM from clone to destroy, with calls that wait and with tasks; faults, cancellation.
import assert from 'node:assert/strict'
import { client, run, until } from './common.mjs'

await run(async () => {
  const xapi = client()
  await xapi.connect()
  await xapi.objectsFetched
  const template = Object.values(xapi.objects.indexes.type.VM).find(_ => _.name_label === 'sim-00001')

  for (const call of [xapi.call.bind(xapi), xapi.callAsync.bind(xapi)]) {
    const ref = await call('VM.clone', template.$ref, 'life')
    assert.match(ref, /^OpaqueRef:/)
    const vm = await xapi.barrier(ref)
    const step = async (state, method, ...args) => {
      await call('VM.' + method, ref, ...args)
      await until(`${method}: ${state}`, () => xapi.getObjectByRef(ref).power_state === state)
    }
    await step('Running', 'start', false, false)
    assert.equal((await xapi.barrier(ref)).$resident_on, xapi.pool.$master)
    await step('Paused', 'pause')
    await step('Running', 'unpause')
    await step('Suspended', 'suspend')
    await step('Running', 'resume', false, false)
    await step('Running', 'clean_reboot')
    await step('Halted', 'clean_shutdown')
    await vm.$callAsync('destroy')
    await until('the end', () => xapi.getObjectByRef(ref, null) === null)
  }

  // the server's words, in both ways
  for (const call of [xapi.call.bind(xapi), xapi.callAsync.bind(xapi)]) {
    await assert.rejects(call('VM.unpause', template.$ref), error => {
      assert.equal(error.code, 'VM_BAD_POWER_STATE')
      assert.deepEqual(error.params.slice(0, 1), [template.$ref])
      return true
    })
  }
  await assert.rejects(xapi.call('VM.no_such_thing'), { code: 'MESSAGE_METHOD_UNKNOWN', params: ['VM.no_such_thing'] })
  await assert.rejects(xapi.call('VM.get_name_label', 'OpaqueRef:none'), {
    code: 'HANDLE_INVALID',
    params: ['VM', 'OpaqueRef:none'],
  })

  // a task of the client's own
  const task = await xapi.createTask('mine', 'with a description')
  await until('the task', () => xapi.getObjectByRef(task, null)?.name_label === 'mine')
  assert.equal(xapi.getObjectByRef(task).status, 'pending')
  await xapi.call('task.destroy', task)
  await until('no task', () => xapi.getObjectByRef(task, null) === null)

  // the library destroys the tasks that it has seen end
  await until('no tasks', () => Object.keys(xapi.objects.indexes.type.task ?? {}).length === 0)
  assert.deepEqual(await xapi.getAllRecords('task'), [])
  await xapi.disconnect()
})
