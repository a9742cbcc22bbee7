'use strict';
// Two windows of the demo page exchange a message: node demo.js URL CHROMIUM [SCREENSHOT]
const { chromium } = require('playwright-core');
const [url, executablePath, screenshot] = process.argv.slice(2);

(async () => {
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
  const faults = [];
  const open = async () => {
    const page = await (await browser.newContext({ viewport: { width: 1100, height: 800 } })).newPage();
    page.on('pageerror', (error) => faults.push(String(error)));
    page.on('console', (message) => { if (message.type() === 'error') faults.push(message.text()); });
    await page.goto(url);
    await page.waitForSelector('#state.on');
    await page.waitForSelector('#messages li:has-text("You are in lobby")');
    return page;
  };
  const alice = await open();
  const bob = await open();
  await alice.fill('#name', 'Alice');
  await alice.click('#login button');
  await alice.waitForFunction(() => document.querySelector('#auth-state').textContent === 'authenticated');
  await alice.type('#text', 'Hello');
  await bob.waitForSelector('#typing:has-text("Alice is typing")');
  await alice.fill('#text', 'Hello, window two');
  await alice.click('#say button');
  await bob.waitForSelector('#messages li:has-text("Hello, window two")');
  await bob.fill('#a', '20');
  await bob.fill('#b', '22');
  await bob.click('#add button');
  await bob.waitForFunction(() => document.querySelector('#sum').textContent === '42');
  await bob.waitForFunction(() => document.querySelector('#f-clients').textContent === '2');
  if (screenshot) await alice.screenshot({ path: screenshot });
  const line = await bob.textContent('#messages li:last-child');
  await alice.click('#logout');
  await alice.waitForFunction(() => document.querySelector('#auth-state').textContent === 'unauthenticated');
  console.log(JSON.stringify({ line, faults }));
  await browser.close();
})().catch((error) => { console.error(error); process.exit(1); });
