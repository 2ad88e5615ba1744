// A real browser on the page: `node browser.cjs URL IMAGE SCREENSHOTS`; prints what it saw as one JSON object.
const { chromium } = require("playwright-core");

const [url, image, folder] = process.argv.slice(2);
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];

async function look(page) {
  await page.goto(url);
  await page.setInputFiles("#file", image);
  await page.waitForFunction(() => /found in/.test(document.getElementById("status").textContent), null, { timeout: 120000 });
}

// The same image given by an event, as a drop or a paste gives it.
async function given(page, kind) {
  const encoded = require("fs").readFileSync(image).toString("base64");
  await page.evaluate(([kind, encoded]) => {
    document.getElementById("status").textContent = "";
    const transfer = new DataTransfer();
    const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], `${kind}.jpg`, { type: "image/jpeg" }));
    const event = kind === "drop" ? new DragEvent("drop", { dataTransfer: transfer }) : new ClipboardEvent("paste", { clipboardData: transfer });
    document.dispatchEvent(event);
  }, [kind, encoded]);
  await page.waitForFunction(() => /found in/.test(document.getElementById("status").textContent), null, { timeout: 120000 });
  return [await page.textContent("#curl"), JSON.parse(await page.textContent("#json")).length];
}

async function pixels(page) {
  return page.evaluate(() => {
    const canvas = document.getElementById("canvas");
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let sum = 0;
    for (let i = 0; i < data.length; i += 4) sum = (sum * 31 + data[i] + data[i + 1] * 3 + data[i + 2] * 7) % 4294967291;
    return { width: canvas.width, height: canvas.height, sum };
  });
}

(async () => {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: FLAGS });
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, permissions: ["camera"] });
  const page = await context.newPage();
  const seen = { errors: [], requests: [] };
  page.on("console", (message) => message.type() === "error" && seen.errors.push(message.text()));
  page.on("pageerror", (error) => seen.errors.push(String(error)));
  page.on("request", (request) => seen.requests.push(request.url()));
  await look(page);
  seen.status = await page.textContent("#status");
  seen.json = JSON.parse(await page.textContent("#json"));
  seen.listed = await page.$$eval("#found li", (items) => items.map((item) => item.innerText.split("\n")[0]));
  seen.label = await page.getAttribute("#canvas", "aria-label");
  seen.curl = await page.textContent("#curl");
  seen.withBoxes = await pixels(page);
  await page.screenshot({ path: `${folder}/desktop.png` });

  seen.dropped = await given(page, "drop");
  seen.pasted = await given(page, "paste");

  await page.focus("#threshold"); // from here on with the keyboard alone
  await page.keyboard.press("End");
  seen.atEnd = JSON.parse(await page.textContent("#json")).length;
  seen.withoutBoxes = await pixels(page);
  await page.keyboard.press("Home");
  seen.atHome = JSON.parse(await page.textContent("#json"));
  await page.selectOption("#class", seen.json[0].label);
  seen.filtered = JSON.parse(await page.textContent("#json")).map((d) => d.label);

  await page.click("#camera");
  await page.waitForFunction(() => document.getElementById("video").videoWidth > 0);
  await page.evaluate(() => { document.getElementById("status").textContent = ""; }); // else what it said before counts
  await page.click("#shoot");
  await page.waitForFunction(() => /found in/.test(document.getElementById("status").textContent), null, { timeout: 120000 });
  seen.camera = await page.textContent("#status");

  await page.setInputFiles("#file", __filename);
  await page.waitForFunction(() => document.getElementById("status").classList.contains("wrong"));
  seen.refused = await page.textContent("#status");

  for (const [name, options] of Object.entries({
    phone: { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true },
    dark: { viewport: { width: 1200, height: 900 }, colorScheme: "dark" },
  })) {
    const other = await (await browser.newContext(options)).newPage();
    await look(other);
    seen[`${name}Overflow`] = await other.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    await other.screenshot({ path: `${folder}/${name}.png`, fullPage: name === "phone" });
  }
  await browser.close();
  console.log(JSON.stringify(seen));
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
