// session.mjs - a session that somebody ends is replaced, and the cache is filled again; wrong passwords are told.
import assert from 'node:assert/strict'
import { client, run, until } from './common.mjs'

await run(async () => {
  // When a call has begun to log in again, the library's own watcher may find itself without a session for a moment: it
  // warns and waits this long.
  const xapi = client({ eventPollDelay: 100 })
  await xapi.connect()
  await xapi.objectsFetched
  const first = xapi.sessionId
  const vm = Object.values(xapi.objects.indexes.type.VM).find(_ => _.name_label === 'sim-00002')

  await xapi._call('session.logout', [first])
  assert.equal(await xapi.getField('VM', vm.$ref, 'name_label'), 'sim-00002')
  assert.notEqual(xapi.sessionId, first)
  const other = client({ watchEvents: false })
  await other.connect()
  await other.call('VM.set_name_description', vm.$ref, 'after a new session')
  await until('events of the new session', () => xapi.getObjectByRef(vm.$ref).name_description === 'after a new session')
  await xapi.barrier()

  // many calls at once, on as many connections as the library opens
  const names = await Promise.all(Array.from({ length: 200 }, () => other.getField('VM', vm.$ref, 'name_label')))
  assert.deepEqual([...new Set(names)], ['sim-00002'])

  const wrong = client({ auth: { user: 'root', password: 'wrong' }, watchEvents: false })
  await assert.rejects(wrong.connect(), { code: 'SESSION_AUTHENTICATION_FAILED' })

  // with a session that it did not make
  const guest = client({ auth: { sessionId: other.sessionId }, watchEvents: false })
  await guest.connect()
  assert.equal(await guest.getField('VM', vm.$ref, 'name_label'), 'sim-00002')
  await other.disconnect()
  await xapi.disconnect()
}, true)
