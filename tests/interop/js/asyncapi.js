'use strict';
// Validate an AsyncAPI document on standard input and print what the parser says: node asyncapi.js
const { Parser } = require('@asyncapi/parser');

(async () => {
  let text = '';
  for await (const chunk of process.stdin) text += chunk;
  const { document, diagnostics } = await new Parser().parse(text);
  console.log(JSON.stringify({
    operations: document ? document.operations().all().map((operation) => operation.id()) : null,
    diagnostics: diagnostics.map(({ code, message, path, severity }) => ({ code, message, severity, path: path.join('/') })),
  }));
})().catch((error) => { console.error(error); process.exit(1); });
