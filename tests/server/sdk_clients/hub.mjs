// Hugging Face's client for JavaScript: `node hub.mjs URL IMAGE` prints its answers as JSON.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

const { InferenceClient } = createRequire(`${process.env.NODE_PATH}/`)("@huggingface/inference");
const [url, image] = process.argv.slice(2);
const client = new InferenceClient().endpoint(url);
const found = await client.objectDetection({ inputs: new Blob([await readFile(image)]) });
const refused = await client.objectDetection({ inputs: new Blob(["not an image"]) }).catch((error) => error.message);
console.log(JSON.stringify({ found, refused }));
