// SPDX-License-Identifier: Apache-2.0
'use strict'
// An HTTP/2 server of node without encryption; it prints its port.
const server = require('http2').createServer((request, response) => {
  request.resume()
  request.on('end', () => {
    if (request.url.endsWith('7')) response.statusCode = 418
    response.end('x'.repeat(request.url.length * 700))
  })
})
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
