'use strict';
// Look at the description of a server: node asyncapi_page.js URL CHROMIUM [TOKEN] [SCREENSHOT] [dark]
const { chromium } = require('playwright-core');
const [url, executablePath, token, screenshot, scheme] = process.argv.slice(2);

(async () => {
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-quic', '--disable-background-networking', '--disable-component-update', '--disable-sync'] });
  const page = await browser.newPage({ viewport: { width: 1200, height: 900 }, colorScheme: scheme || 'light' });
  const faults = [];
  const origins = new Set();
  page.on('pageerror', (error) => faults.push(String(error)));
  page.on('console', (message) => { if (message.type() === 'error' && !message.text().includes('401')) faults.push(message.text()); });
  page.on('request', (request) => { if (!request.url().startsWith('data:')) origins.add(new URL(request.url()).origin); });
  await page.goto(url);
  if (token) {
    await page.fill('#token', 'wrong');
    await page.click('#login button');
    await page.waitForFunction(() => document.querySelector('#login-error').textContent !== '');
    await page.fill('#token', token);
    await page.click('#login button');
  }
  await page.waitForSelector('.group .card');
  const shown = () => page.$$eval('.group .card', (cards) => cards.filter((card) => card.checkVisibility()).map((card) => card.querySelector('h3').textContent));
  const all = await shown();
  if (screenshot) await page.screenshot({ path: screenshot });
  await page.keyboard.press('/');
  await page.keyboard.type('pointer');
  const found = await shown();
  await page.fill('#search', '');
  const types = await page.$$eval('pre', (blocks) => blocks.map((block) => block.textContent));
  await page.click('pre a >> nth=0');
  const target = await page.$eval(':target h3 code', (name) => name.textContent);
  console.log(JSON.stringify({ title: await page.title(), all, found, types, target, origins: [...origins], faults }));
  await browser.close();
})().catch((error) => { console.error(error); process.exit(1); });
