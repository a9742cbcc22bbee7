// The same operations on the original server: node server.js PORT
'use strict';
const http = require('node:http');
const { attach } = require('socketcluster-server');

const httpServer = http.createServer();
const server = attach(httpServer);

async function handle(socket) {
  for await (const request of socket.procedure('echo')) request.end(request.data);
}

(async () => {
  for await (const { socket } of server.listener('connection')) handle(socket);
})();

httpServer.listen(Number(process.argv[2]), '127.0.0.1');
