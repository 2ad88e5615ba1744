// The page: an image goes to the server, what it finds is drawn. No library, no build, no request to anywhere else.
"use strict";

const RUN = "client/v4/accounts/local/ai/run/@cf/facebook/detr-resnet-50";
const LEAST = 0.05; // what is asked for; the slider selects from it without asking again
const LONGEST_PX = 1600; // of the canvas; boxes are scaled with it
const NOT_LET_IN = [9106, 6003, 10000];

const at = (id) => document.getElementById(id);
const state = { blob: null, bitmap: null, scale: 1, found: [], marked: -1, asked: 0 };

function say(text, wrong = false) {
  at("status").textContent = text;
  at("status").classList.toggle("wrong", wrong);
}

// Which detections are shown

function shown() {
  const threshold = Number(at("threshold").value);
  const label = at("class").value;
  return state.found.filter((d) => d.score > threshold && (!label || d.label === label));
}

function hue(label) {
  let sum = 0;
  for (const letter of label) sum = (sum * 31 + letter.codePointAt(0)) % 360;
  return sum;
}

// Drawing

function drawBox(context, detection, marked) {
  const { xmin, ymin, xmax, ymax } = detection.box;
  const [x, y, width, height] = [xmin, ymin, xmax - xmin, ymax - ymin].map((side) => side * state.scale);
  const unit = Math.max(1, context.canvas.width / 640);
  context.lineWidth = (marked ? 5 : 2.5) * unit;
  context.strokeStyle = `hsl(${hue(detection.label)} 85% 45%)`;
  context.strokeRect(x, y, width, height);
  const text = `${detection.label} ${detection.score.toFixed(2)}`;
  context.font = `600 ${13 * unit}px system-ui, sans-serif`;
  const textWidth = context.measureText(text).width + 8 * unit;
  const left = Math.max(0, Math.min(x, context.canvas.width - textWidth));
  const top = Math.max(0, y - 18 * unit);
  context.fillStyle = `hsl(${hue(detection.label)} 85% 26%)`;
  context.fillRect(left, top, textWidth, 18 * unit);
  context.fillStyle = "#fff";
  context.fillText(text, left + 4 * unit, top + 13.5 * unit);
}

function draw() {
  const canvas = at("canvas");
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (state.bitmap) context.drawImage(state.bitmap, 0, 0, canvas.width, canvas.height);
  const detections = shown();
  [...detections].reverse().forEach((d) => drawBox(context, d, detections.indexOf(d) === state.marked));
  const names = detections.map((d) => d.label).join(", ");
  canvas.setAttribute("aria-label", state.bitmap ? `Image with ${detections.length} found: ${names}` : "No image yet");
}

function mark(index) {
  state.marked = index;
  draw();
}

function listed(detection, index) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  const [label, score] = [document.createElement("span"), document.createElement("span")];
  label.textContent = detection.label;
  score.textContent = detection.score.toFixed(3);
  score.className = "score";
  button.type = "button";
  button.append(label, score);
  for (const event of ["focus", "pointerenter", "click"]) button.addEventListener(event, () => mark(index));
  for (const event of ["blur", "pointerleave"]) button.addEventListener(event, () => mark(-1));
  item.append(button);
  return item;
}

function curlLine() {
  const name = (state.blob && state.blob.name) || "image.jpg";
  const url = new URL(`${RUN}?threshold=${at("threshold").value}`, location.href);
  const token = at("token").value ? ' -H "Authorization: Bearer $TOKEN"' : "";
  return `curl '${url}' -X POST${token} --data-binary '@${name.replaceAll("'", "'\\''")}'`;
}

function show() {
  const detections = shown();
  at("threshold-value").textContent = Number(at("threshold").value).toFixed(2);
  at("found").replaceChildren(...detections.map(listed));
  at("json").textContent = JSON.stringify(detections, null, 1);
  at("curl").textContent = curlLine();
  state.marked = -1;
  draw();
}

function offerClasses() {
  const labels = [...new Set(state.found.map((d) => d.label))].sort();
  const options = ["", ...labels].map((label) => new Option(label || "all", label));
  at("class").replaceChildren(...options);
}

// Asking the server

async function ask(blob) {
  const headers = { "Content-Type": "application/octet-stream" };
  if (at("token").value) headers.Authorization = `Bearer ${at("token").value}`;
  const started = performance.now();
  const response = await fetch(`${RUN}?threshold=${LEAST}`, { method: "POST", headers, body: blob });
  const answer = await response.json();
  if (!answer.success) {
    const { code, message } = answer.errors[0];
    if (NOT_LET_IN.includes(code)) at("token-form").hidden = false;
    throw new Error(`${message} (${code})`);
  }
  return { found: answer.result, ms: Math.round(performance.now() - started) };
}

async function fit(blob) {
  state.bitmap = await createImageBitmap(blob).catch(() => null); // upright, as the server sees it
  const canvas = at("canvas");
  if (!state.bitmap) return;
  const { width, height } = state.bitmap;
  state.scale = Math.min(1, LONGEST_PX / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * state.scale));
  canvas.height = Math.max(1, Math.round(height * state.scale));
}

async function look(blob) {
  const turn = ++state.asked;
  state.blob = blob;
  state.found = [];
  say("Looking …");
  await fit(blob);
  show();
  try {
    const { found, ms } = await ask(blob);
    if (turn !== state.asked) return; // another image was given meanwhile
    state.found = found;
    offerClasses();
    show();
    const size = state.bitmap ? `${state.bitmap.width} × ${state.bitmap.height}, ` : "";
    say(`${shown().length} found in ${ms} ms (${size}${Math.ceil(blob.size / 1000)} kB).`);
  } catch (error) {
    if (turn === state.asked) say(error.message, true);
  }
}

// Ways in: file, drop, paste, camera

function firstImage(items) {
  return [...items].find((item) => item && item.type.startsWith("image/"));
}

at("file").addEventListener("change", (event) => event.target.files[0] && look(event.target.files[0]));
for (const name of ["dragover", "drop", "dragleave"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", name === "dragover");
    const image = name === "drop" && firstImage(event.dataTransfer.files);
    if (image) look(image);
    else if (name === "drop") say("That is no image.", true);
  });
}
document.addEventListener("paste", (event) => {
  const image = firstImage(event.clipboardData.files);
  if (image) look(image);
});

let stream = null;

function closeCamera() {
  if (stream) stream.getTracks().forEach((track) => track.stop());
  stream = null;
  at("viewfinder").hidden = true;
}

at("camera").addEventListener("click", async () => {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    at("video").srcObject = stream;
    at("viewfinder").hidden = false;
    await at("video").play();
    at("shoot").focus();
  } catch (error) {
    say(navigator.mediaDevices ? `No camera: ${error.message}` : "A browser gives its camera to https and localhost only.", true);
  }
});
at("cancel").addEventListener("click", closeCamera);
at("shoot").addEventListener("click", () => {
  const video = at("video");
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  closeCamera();
  canvas.toBlob((blob) => look(blob), "image/jpeg", 0.92);
});

// The rest

for (const id of ["threshold", "class"]) at(id).addEventListener("input", show);
at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (state.blob) look(state.blob);
});
for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(at(button.dataset.of).textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
}
show();
