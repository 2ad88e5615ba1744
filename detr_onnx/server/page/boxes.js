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

// Draws detections, the best first in the list and on top. `opacity` of a detection is 0..1.
export function drawDetections(context, detections, scale, isMarked, opacity = () => 1) {
  const { canvas } = context;
  const unit = canvas.width / (canvas.clientWidth || canvas.width); // a pixel of the page: text has one size on every screen
  context.font = `600 ${13 * unit}px system-ui, sans-serif`;
  const plates = placeLabels(context, detections, scale, unit);
  const onTopLast = [...detections.entries()].reverse();
  for (const [, detection] of onTopLast) {
    const { xmin, ymin, xmax, ymax } = detection.box;
    context.globalAlpha = opacity(detection);
    context.lineWidth = (isMarked(detection) ? 5 : 2.5) * unit;
    context.strokeStyle = `hsl(${hue(detection.label)} 85% 45%)`;
    context.strokeRect(...[xmin, ymin, xmax - xmin, ymax - ymin].map((side) => side * scale));
  }
  for (const [index, detection] of onTopLast) {
    const { left, top, width, height } = plates[index];
    context.globalAlpha = opacity(detection);
    context.fillStyle = `hsl(${hue(detection.label)} 85% 26%)`;
    context.fillRect(left, top, width, height);
    context.fillStyle = "#fff";
    context.fillText(textOf(detection), left + 4 * unit, top + 13.5 * unit);
  }
  context.globalAlpha = 1;
}

const textOf = ({ label, score }) => `${label} ${score.toFixed(2)}`;

// The rectangle of each label: above its box, in it or below it, at its left or right, where it first covers least of those before.
export function placeLabels(context, detections, scale, unit) {
  const { canvas } = context;
  const height = 18 * unit;
  const plates = [];
  for (const detection of detections) {
    const { xmin, ymin, xmax, ymax } = detection.box;
    const [left, top, right, bottom] = [xmin, ymin, xmax, ymax].map((side) => side * scale);
    const width = context.measureText(textOf(detection)).width + 8 * unit;
    const rows = [[top - height, top], [bottom, bottom - height]];
    const corners = rows.flatMap((pair) => [left, right - width].flatMap((x) => pair.map((y) => [x, y])));
    const places = corners.map(([x, y]) => ({
      left: Math.max(0, Math.min(x, canvas.width - width)), top: Math.max(0, Math.min(y, canvas.height - height)), width, height,
    }));
    const covered = places.map((place) => plates.reduce((sum, plate) => sum + overlap(place, plate), 0));
    plates.push(places[covered.indexOf(Math.min(...covered))]);
  }
  return plates;
}

function overlap(a, b) {
  const width = Math.min(a.left + a.width, b.left + b.width) - Math.max(a.left, b.left);
  const height = Math.min(a.top + a.height, b.top + b.height) - Math.max(a.top, b.top);
  return Math.max(0, width) * Math.max(0, height);
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
