// Detections in an image: a canvas with boxes, and the list of what is shown. Used by the server's page and examples/browser.

const [SHORTEST_PX, LONGEST_PX] = [640, 1600]; // limits of the longer side of the canvas; boxes are scaled with it

function hue(label) {
  let sum = 0;
  for (const letter of label) sum = (sum * 31 + letter.codePointAt(0)) % 360;
  return sum;
}

// Sizes the canvas for an image; pixels of the canvas for one of the image.
export function fit(canvas, { width, height }) {
  const longer = Math.max(width, height);
  const scale = Math.min(LONGEST_PX, Math.max(SHORTEST_PX, longer)) / longer;
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  return scale;
}

export function drawBox(context, detection, scale, marked) {
  const { xmin, ymin, xmax, ymax } = detection.box;
  const [x, y, width, height] = [xmin, ymin, xmax - xmin, ymax - ymin].map((side) => side * scale);
  const { canvas } = context;
  const unit = canvas.width / (canvas.clientWidth || canvas.width); // a pixel of the page: text has one size on every screen
  context.lineWidth = (marked ? 5 : 2.5) * unit;
  context.strokeStyle = `hsl(${hue(detection.label)} 85% 45%)`;
  context.strokeRect(x, y, width, height);
  const text = `${detection.label} ${detection.score.toFixed(2)}`;
  context.font = `600 ${13 * unit}px system-ui, sans-serif`;
  const textWidth = context.measureText(text).width + 8 * unit;
  const left = Math.max(0, Math.min(x, canvas.width - textWidth));
  const top = Math.max(0, y - 18 * unit);
  context.fillStyle = `hsl(${hue(detection.label)} 85% 26%)`;
  context.fillRect(left, top, textWidth, 18 * unit);
  context.fillStyle = "#fff";
  context.fillText(text, left + 4 * unit, top + 13.5 * unit);
}

// A row of the list: a button that marks its box while it has the focus or the pointer.
export function row(detection, mark) {
  const [item, button, label, score] = ["li", "button", "span", "span"].map((name) => document.createElement(name));
  label.textContent = detection.label;
  score.textContent = detection.score.toFixed(3);
  score.className = "score";
  button.type = "button";
  button.append(label, score);
  for (const event of ["focus", "pointerenter", "click"]) button.addEventListener(event, () => mark(true));
  for (const event of ["blur", "pointerleave"]) button.addEventListener(event, () => mark(false));
  item.append(button);
  return item;
}

export function offerClasses(select, detections) {
  const labels = [...new Set(detections.map((d) => d.label))].sort();
  select.replaceChildren(...["", ...labels].map((label) => new Option(label || "all", label)));
}
