// The dashboard in Debian's Chromium: page.mjs PORT TOKEN READER_TOKEN SHOTS [bless]
// Exits with 1 and says what was not as it should be.

import { readFile, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { execFile } from "node:child_process";
import { chromium } from "playwright-core";

const [port, token, reader, shots, huecry, dataDirectory, bless] = process.argv.slice(2);
const origin = `http://127.0.0.1:${port}`;
const failures = [];
const check = (what, is, said) => {
  if (is) console.log(`ok: ${what}`);
  else failures.push(`${what}: ${said ?? "it is not so"}`);
};

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--force-device-scale-factor=1", "--font-render-hinting=none"],
});
const SIZES = { desk: { width: 1280, height: 860 }, phone: { width: 390, height: 844 }, wall: { width: 1920, height: 1080 } };
const elsewhere = [];
const dialogs = [];

async function open(size, as, more = {}) {
  const context = await browser.newContext({ viewport: SIZES[size], colorScheme: "light", timezoneId: "Asia/Singapore", reducedMotion: "reduce", ...more });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  page.on("request", (request) => {
    if (!request.url().startsWith(`${origin}/`)) elsewhere.push(request.url());
  });
  page.on("dialog", (dialog) => {
    dialogs.push(dialog.message());
    dialog.dismiss();
  });
  page.on("pageerror", (error) => failures.push(`an error in the page: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error" && !/401|404|400|403/.test(message.text())) failures.push(`the console says: ${message.text()}`);
  });
  await page.goto(`${origin}/#token=${as}`);
  return page;
}

const at = async (page, place, words) => {
  await page.goto(`${origin}/#/${place}`);
  await page.getByText(words).first().waitFor({ timeout: 60_000 });
};

// The first look: soon, small, and from here alone.
{
  await (await open("desk", token)).context().close();
  const begun = Date.now();
  const page = await open("desk", token);
  await page.getByRole("heading", { name: "What needs you" }).waitFor();
  const took = Date.now() - begun;
  const bytes = await page.evaluate(() => performance.getEntries().filter((one) => one.decodedBodySize > 0 && /\/(page\/.*)?$/.test(new URL(one.name).pathname)).reduce((sum, one) => sum + one.transferSize, 0));
  console.log(`interactive after ${took} ms, with a new browsing context, ${bytes} bytes`);
  check("the page is under 200 KiB", bytes > 20_000 && bytes < 200 * 1024, `${bytes} bytes`);
  check("the token is not in the address", !page.url().includes(token), page.url());
  check("both clocks are shown", /UTC[\s\S]*(SGT|GMT\+8)/.test(await page.locator("#clock").innerText()), await page.locator("#clock").innerText());
  // From the keyboard alone.
  await page.keyboard.press("/");
  await page.keyboard.type("evil.example");
  await page.keyboard.press("Enter");
  await page.getByText("evil[.]example").first().waitFor();
  check("a search from the keyboard finds the value", true);
  await page.getByRole("button", { name: "Explain" }).first().focus();
  await page.keyboard.press("Enter");
  await page.getByText("Confidence", { exact: true }).waitFor();
  check("explain says where it stands", /resolver/.test(await page.locator("main").innerText()));
  // Take it back.
  await page.getByRole("button", { name: "Unblock" }).first().click();
  await page.getByLabel("Why; someone will ask").fill("a clinic's shop");
  await page.getByRole("dialog").getByRole("button", { name: "Unblock" }).click();
  await page.getByText(/Enforced nowhere here/).waitFor();
  check("unblock says what went", /line/.test(await page.getByText(/Enforced nowhere here/).innerText()));
  await page.context().close();
}

// A held record is let in; the page of somebody else sees it without being asked.
{
  const [page, watcher] = [await open("desk", token), await open("phone", token)];
  await at(watcher, "held", "waits for a person");
  await at(page, "held", "203.0.113[.]9");
  await page.getByLabel("choose 203.0.113[.]9").check();
  await page.getByRole("button", { name: "Let in" }).click();
  await page.getByLabel("Why; it stands in the log with your name").fill("we know");
  await page.getByRole("dialog").getByRole("button", { name: "Let in" }).click();
  await page.getByText("1 record is let in.").waitFor();
  await watcher.getByText("Nothing waits.").waitFor({ timeout: 60_000 });
  check("another's page follows by itself", true);
  await at(page, "since", "Who did what");
  check("the log names who did it", /releases|let in|held/i.test(await page.locator("main").innerText()) && /token/.test(await page.locator("main").innerText()), await page.locator("main").innerText());
  // What comes while somebody looks.
  await at(page, "now", "What needs you");
  const before = await page.locator("section[aria-label=Known] .big").innerText();
  await new Promise((resolve, reject) => execFile(huecry, ["--data", dataDirectory, "publish", "--value", "fresh.example", "--confidence", "60"], (error) => (error ? reject(error) : resolve())));
  await page.waitForFunction((was) => document.querySelector("section[aria-label=Known] .big")?.innerText !== was, before, { timeout: 60_000 });
  check("what comes is shown without a reload", true);
  await page.context().close();
  await watcher.context().close();
}

// Whoever may only read is offered nothing else.
{
  const page = await open("desk", reader);
  await at(page, "protecting", "What is protecting us");
  check("a reader finds no button that stops", (await page.getByRole("button", { name: /Stop/ }).count()) === 0);
  await page.context().close();
}

// X-07, G-28: hostile text in every field that is shown.
{
  const page = await open("desk", token);
  await at(page, "search/hostile", "hostile");
  await page.waitForFunction(() => document.querySelectorAll("main section").length > 250, undefined, { timeout: 60_000 });
  for (const place of ["held", "reach", "since", "now", "disputes", "protecting", "federation", "agreements", "wall"]) {
    await page.goto(`${origin}/#/${place}`);
    await page.waitForTimeout(400);
  }
  await page.goto(`${origin}/#/search/${encodeURIComponent("<img src=x onerror=window.ran=1>")}`);
  await page.waitForTimeout(400);
  const ran = await page.evaluate(() => [window.ran, document.querySelectorAll("main img, main iframe, main script, main object, main embed, main a[href^='javascript' i]").length]);
  check("no payload ran, and none became an element", ran[0] === undefined && ran[1] === 0 && dialogs.length === 0, JSON.stringify([ran, dialogs]));
  await page.goto(`${origin}/#/search/hostile`);
  await page.waitForFunction(() => document.querySelectorAll("main section").length > 250, undefined, { timeout: 60_000 });
  const text = await page.locator("main").innerText();
  check("payloads are shown as what they are", text.includes("<script>window.ran=1</script>") && text.includes("\\u{202e}"), text.slice(0, 500));
  check("right-to-left text stands in its own direction", (await page.locator("bdi[dir=auto]").count()) > 300);
  await page.context().close();
}

// Accessibility, by axe-core; its script needs a page without our content policy.
{
  const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
  for (const scheme of ["light", "dark"]) {
    const page = await open("desk", token, { bypassCSP: true, colorScheme: scheme });
    for (const place of ["now", "protecting", "federation", "search/evil.example", "held", "disputes", "reach", "agreements", "since", "wall"]) {
      await page.goto(`${origin}/#/${place}`);
      await page.waitForTimeout(500);
      await page.evaluate(axe);
      const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
      const serious = found.violations.filter((one) => ["serious", "critical"].includes(one.impact));
      check(`${place}, ${scheme}: axe finds nothing serious`, serious.length === 0, serious.map((one) => `${one.id} ${one.nodes.slice(0, 2).map((node) => node.html.slice(0, 160)).join(" ")}`).join("; "));
    }
    await page.context().close();
  }
}

// As it looked before: what time alone changes is hidden.
for (const [name, size, place, scheme] of [["now", "desk", "now", "light"], ["phone", "phone", "protecting", "light"], ["wall", "wall", "wall", "dark"]]) {
  const page = await open(size, token, { colorScheme: scheme, bypassCSP: true });
  await page.goto(`${origin}/#/${place}`);
  await page.locator("main .sheet").last().waitFor({ timeout: 60_000 });
  await page.waitForTimeout(900);
  await page.addStyleTag({ content: "time, #clock, .small.quiet { visibility: hidden }" });
  const shot = await page.screenshot();
  const path = `${shots}/${name}.png`;
  if (bless === "bless" || !existsSync(path)) {
    await writeFile(path, shot);
    console.log(`ok: ${path} is kept`);
  } else {
    const kept = (await readFile(path)).toString("base64");
    const share = await page.evaluate(async ([one, other]) => {
      const pixels = async (base64) => {
        const image = await createImageBitmap(await (await fetch(`data:image/png;base64,${base64}`)).blob());
        const canvas = new OffscreenCanvas(image.width, image.height);
        const context = canvas.getContext("2d");
        context.drawImage(image, 0, 0);
        return context.getImageData(0, 0, image.width, image.height);
      };
      const [a, b] = [await pixels(one), await pixels(other)];
      if (a.width !== b.width || a.height !== b.height) return 1;
      let other_ = 0;
      for (let at = 0; at < a.data.length; at += 4) {
        if (Math.abs(a.data[at] - b.data[at]) + Math.abs(a.data[at + 1] - b.data[at + 1]) + Math.abs(a.data[at + 2] - b.data[at + 2]) > 90) other_ += 1;
      }
      return other_ / (a.data.length / 4);
    }, [kept, shot.toString("base64")]);
    check(`${name} looks as it did`, share < 0.02, `${(100 * share).toFixed(1)} % of its points differ from ${path}`);
    if (share >= 0.02) await writeFile(`${path}.new`, shot);
  }
  await page.context().close();
}

check("nothing was asked of anybody else", elsewhere.filter((url) => !url.startsWith("data:")).length === 0, elsewhere.join(" "));
await browser.close();
for (const failure of failures) console.error(`NOT SO: ${failure}`);
process.exit(failures.length === 0 ? 0 : 1);
