'use strict';
// Validate a list of AsyncAPI documents on standard input, and print what the parser says of each: node asyncapi.js
const { Parser } = require('@asyncapi/parser');

(async () => {
  let text = '';
  for await (const chunk of process.stdin) text += chunk;
  const answers = [];
  for (const each of JSON.parse(text)) {
    const { document, diagnostics } = await new Parser().parse(each);
    answers.push({
      operations: document ? document.operations().all().map((operation) => operation.id()) : null,
      diagnostics: diagnostics.map(({ code, message, path, severity }) => ({ code, message, severity, path: path.join('/') })),
    });
  }
  console.log(JSON.stringify(answers));
})().catch((error) => { console.error(error); process.exit(1); });
