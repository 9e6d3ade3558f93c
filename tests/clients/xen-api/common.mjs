// common.mjs - connects xen-api as its users do: node SCRIPT URL USER PASSWORD TRANSPORT
import { createClient } from 'xen-api'

const [url, user, password, transport] = process.argv.slice(2)

// Anything that the library only warns of is a failure here.
let warnings = 0
console.warn = (...args) => {
  console.error('warning:', ...args)
  warnings++
}

export const client = options =>
  createClient({ url, auth: { user, password }, allowUnauthorized: true, transport, debounce: 20, ...options })

export const until = async (what, condition) => {
  for (let i = 0; i < 400; i++) {
    const value = condition()
    if (value) {
      return value
    }
    await new Promise(resolve => setTimeout(resolve, 25))
  }
  throw new Error('waited for nothing: ' + what)
}

export const run = async (main, allowWarnings = false) => {
  try {
    await main()
  } catch (error) {
    console.error(error)
    process.exit(1)
  }
  process.exit(warnings > 0 && !allowWarnings ? 1 : 0)
}
