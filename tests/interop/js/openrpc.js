'use strict';
// Validate an OpenRPC document on standard input and print its faults: node openrpc.js
const Ajv = require('ajv');
const { openrpcDocument } = require('@open-rpc/meta-schema');

// The meta-schema of schemas is not in the package: draft 7, which the specification names, replaces it.
const draft7 = 'http://json-schema.org/draft-07/schema#';
const { $schema, ...schema } = JSON.parse(JSON.stringify(openrpcDocument)
  .replaceAll('https://meta.json-schema.tools/#/definitions/JSONSchemaObject/', `${draft7}/`)
  .replaceAll(/"\$ref":"https:\/\/meta\.json-schema\.tools\/?"/g, `"$ref":"${draft7}"`));
const ajv = new Ajv({ strict: false, validateFormats: false, logger: false });
const validate = ajv.compile(schema);

(async () => {
  let text = '';
  for await (const chunk of process.stdin) text += chunk;
  validate(JSON.parse(text));
  console.log(JSON.stringify((validate.errors || []).map(({ instancePath, message }) => `${instancePath}: ${message}`)));
})().catch((error) => { console.error(error); process.exit(1); });
