// Where images come from (a file, a drop, the clipboard, the camera), and copy buttons. Used by the server's page and
// examples/browser, whose elements have the same ids.

const at = (id) => document.getElementById(id);
let stream = null;

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
      else if (name === "drop") refuse("This is not an image.");
    });
  }
  document.addEventListener("paste", (event) => {
    const image = firstImage(event.clipboardData.files);
    if (image) give(image);
  });
  at("camera").addEventListener("click", () => openCamera(refuse));
  at("cancel").addEventListener("click", closeCamera);
  at("shoot").addEventListener("click", () => shoot(give));
}

async function openCamera(refuse) {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    at("video").srcObject = stream;
    at("viewfinder").hidden = false;
    await at("video").play();
    at("shoot").focus();
  } catch (error) {
    refuse(navigator.mediaDevices ? `The camera cannot be used: ${error.message}` : "Browsers allow the camera on https and localhost only.");
  }
}

function closeCamera() {
  if (stream) stream.getTracks().forEach((track) => track.stop());
  stream = null;
  at("viewfinder").hidden = true;
}

function shoot(give) {
  const video = at("video");
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
