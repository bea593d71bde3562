// SPDX-License-Identifier: Apache-2.0
'use strict'
// An HTTP/2 client of node: sends as many requests as the second argument says
// to the URL that is the first, eight at the same time.
const session = require('http2').connect(process.argv[2])
let next = 0, open = 0
function more() {
  while (open < 8 && next < Number(process.argv[3])) {
    const i = next++
    open++
    const stream = session.request({
      ':method': i % 3 ? 'GET' : 'POST', ':path': `/node/${i % 17}?q=${i}`, 'x-request': `${i}`,
    })
    stream.resume()
    stream.on('close', () => { open--; more() })
    stream.end(i % 3 ? undefined : 'b'.repeat(i * 10))
  }
  if (!open) session.close()
}
more()
