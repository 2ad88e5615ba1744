// The hosted API's npm SDK: `node sdk.mjs URL IMAGE` prints its answers as JSON.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

const { default: Cloudflare } = createRequire(`${process.env.NODE_PATH}/`)("cloudflare");
const [url, image] = process.argv.slice(2);
const client = new Cloudflare({ apiToken: "token", baseURL: `${url}/client/v4`, maxRetries: 0 });
const run = (image) => client.ai.run("@cf/facebook/detr-resnet-50", { account_id: "0123", image });
const found = await run([...(await readFile(image))]);
const refused = await run([300]).catch((error) => [error.constructor.name, error.status, error.errors]);
console.log(JSON.stringify({ found, refused }));
