// Where images come from (a file, a drop, the clipboard, the camera, the sample), and copy buttons. Used by the server's
// page and examples/browser, whose elements have the same ids.

const at = (id) => document.getElementById(id);
let stream = null; // of the camera while the viewfinder is open
let openings = 0; // how often the camera was opened or closed

function firstImage(items) {
  return [...items].find((item) => item.type.startsWith("image/") || /\.(avif|hei[cf]|jxl|tiff?)$/i.test(item.name));
}

// Calls `give` with each image, a Blob, and `refuse` with a sentence where there is none.
export function listen(give, refuse) {
  at("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = ""; // else the same file could not be chosen again
    if (file) give(file);
  });
  for (const name of ["dragover", "drop", "dragleave"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      at("drop").classList.toggle("over", name === "dragover");
      const image = name === "drop" && firstImage(event.dataTransfer.files);
      if (image) give(image);
      else if (name === "drop") refuse("This is not an image. Drop the file of one.");
    });
  }
  document.addEventListener("paste", (event) => {
    const image = firstImage(event.clipboardData.files);
    if (image) give(image);
  });
  at("camera").addEventListener("click", () => openCamera(refuse));
  at("cancel").addEventListener("click", closeCamera);
  at("shoot").addEventListener("click", () => shoot(give));
  at("viewfinder").addEventListener("keydown", (event) => event.key === "Escape" && closeCamera());
  at("sample").addEventListener("click", () => giveSample(give, refuse));
}

async function giveSample(give, refuse) {
  const response = await fetch("sample.jpg").catch(() => null);
  if (!response?.ok) return refuse("The sample cannot be loaded. Reload the page.");
  return give(new File([await response.blob()], "sample.jpg", { type: "image/jpeg" }));
}

async function openCamera(refuse) {
  closeCamera();
  const opening = openings;
  try {
    const opened = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    if (opening !== openings) return stop(opened); // the button was pressed again meanwhile
    stream = opened;
    at("video").srcObject = stream;
    at("viewfinder").hidden = false;
    await at("video").play();
    at("shoot").focus();
  } catch (error) {
    if (opening !== openings) return;
    closeCamera();
    refuse(navigator.mediaDevices ? `The camera cannot be used: ${error.message}` : "Browsers allow the camera on https and localhost only.");
  }
}

const stop = (opened) => opened.getTracks().forEach((track) => track.stop());

function closeCamera() {
  openings++;
  if (stream) stop(stream);
  stream = at("video").srcObject = null;
  if (at("viewfinder").contains(document.activeElement)) at("camera").focus(); // else the focus would be lost
  at("viewfinder").hidden = true;
}

function shoot(give) {
  const video = at("video");
  if (!video.videoWidth) return; // no picture has come yet
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  closeCamera();
  canvas.toBlob(give, "image/jpeg", 0.92);
}

// Copies the text of the element that `data-of` of a button names.
export function copyButtons() {
  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", async () => {
      const element = at(button.dataset.of);
      const copied = await copy(element);
      if (!copied) selectText(element);
      button.textContent = copied ? "Copied" : "Press Ctrl+C";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
  }
}

function selectText(element) {
  const range = document.createRange();
  range.selectNodeContents(element);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
}

async function copy(element) {
  if (navigator.clipboard) return navigator.clipboard.writeText(element.textContent).then(() => true, () => false);
  selectText(element); // on plain http there is no clipboard object
  return document.execCommand("copy");
}
