// A client of the Model Context Protocol over HTTP, made of its official SDK: one process per case.
// Usage: node mcp.mjs <hub> <token> <client's name> <JSON list of [tool, arguments]>
// Prints one JSON object: the server, the tools, and the result of each call in order.

import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'

const [hub, token, name, calls] = process.argv.slice(2)
const transport = new StreamableHTTPClientTransport(new URL('/mcp', hub), {
  requestInit: { headers: { authorization: `Bearer ${token}` } }
})
const client = new Client({ name, version: '1' })
await client.connect(transport)
const { tools } = await client.listTools()
const results = []
for (const [tool, args] of JSON.parse(calls)) {
  // The SDK holds each result to the schema that the tool has told.
  results.push(await client.callTool({ name: tool, arguments: args }))
}
console.log(JSON.stringify({ server: client.getServerVersion(), session: transport.sessionId, tools, results }))
await client.close()
