// Masks, boxes, labels and keypoints on a canvas. Sizes in pixels; (H, W) is the size of the upright picture.

const LONGEST_LABEL = 40;

// Return the lengths of the runs of 0 and 1 of a mask, column by column, from COCO's compressed text.
export function runsOf(counts) {
  const runs = [];
  let place = 0;
  while (place < counts.length) {
    let value = 0;
    let shift = 0;
    let part;
    do {
      part = counts.charCodeAt(place++) - 48;
      value |= (part & 31) << shift;
      shift += 5;
    } while (part & 32);
    if (part & 16 && shift < 32) value |= -1 << shift;
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
  }
  return runs;
}

// Return an RGB colour: hues as far apart as can be for any number of them.
export function colorOf(index) {
  const hue = (index * 137.508 + 210) % 360;
  return [0, 8, 4].map((shift) => {
    const k = (shift + hue / 30) % 12;
    return Math.round(255 * (0.55 - 0.4 * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  });
}

// Return the area of a mask's box on a canvas of the given scale, filled where the mask is; null where it is empty.
export function maskImage(mask, box, scale, color) {
  const [height, width] = mask.size;
  const left = Math.max(0, Math.floor(box[0] * scale) - 1);
  const top = Math.max(0, Math.floor(box[1] * scale) - 1);
  const right = Math.min(Math.round(width * scale), Math.ceil(box[2] * scale) + 1);
  const bottom = Math.min(Math.round(height * scale), Math.ceil(box[3] * scale) + 1);
  if (right <= left || bottom <= top) return null;
  const image = new ImageData(right - left, bottom - top);
  const inside = columnsOf(runsOf(mask.counts), height);
  for (let x = left; x < right; x++) {
    const column = inside(Math.min(width - 1, Math.floor((x + 0.5) / scale)));
    for (let y = top; y < bottom; y++) {
      if (!column[Math.min(height - 1, Math.floor((y + 0.5) / scale))]) continue;
      image.data.set([...color, 255], 4 * ((y - top) * image.width + x - left));
    }
  }
  const canvas = document.createElement("canvas");
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d").putImageData(image, 0, 0);
  return { canvas, left, top };
}

// Return a function from a column's number, which never falls, to its pixels.
function columnsOf(runs, height) {
  const pixels = new Uint8Array(height);
  let run = 0;
  let end = runs[0] ?? 0;
  let last = -1;
  return (column) => {
    if (column === last) return pixels;
    last = column;
    const stop = (column + 1) * height;
    let place = column * height;
    pixels.fill(0);
    while (place < stop && run < runs.length) {
      if (end <= place) {
        end += runs[++run] ?? 0;
        continue;
      }
      const next = Math.min(end, stop);
      if (run % 2) pixels.fill(1, place - column * height, next - column * height);
      place = next;
    }
    return pixels;
  };
}

// Draw detections, the surest on top. Each has box, color, text, and perhaps image (of its mask) and keypoints.
export function drawAll(context, detections, layers, scale, ratio, skeleton, marked) {
  const line = 2 * ratio;
  context.font = `${13 * ratio}px system-ui, sans-serif`;
  context.textBaseline = "top";
  const order = [...detections].reverse();
  for (const detection of order) {
    const faint = marked && marked !== detection;
    if (layers.has("masks") && detection.image) {
      context.globalAlpha = faint ? 0.15 : 0.5;
      context.drawImage(detection.image.canvas, detection.image.left, detection.image.top);
    }
    context.globalAlpha = faint ? 0.25 : 1;
    if (layers.has("boxes")) drawBox(context, detection, scale, marked === detection ? 2 * line : line);
    if (layers.has("keypoints")) drawKeypoints(context, detection, skeleton, scale, line);
  }
  const places = [];
  for (const detection of layers.has("labels") ? detections : []) {
    context.globalAlpha = marked && marked !== detection ? 0.25 : 1;
    drawLabel(context, detection, scale, ratio, places);
  }
  context.globalAlpha = 1;
}

function drawBox(context, { box, color }, scale, line) {
  const [x1, y1, x2, y2] = box.map((value) => value * scale);
  context.lineWidth = line;
  context.strokeStyle = `rgb(${color})`;
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
}

// Draw a label above its box, or as far below as the labels before it ask; its place joins theirs.
function drawLabel(context, { box, color, text }, scale, ratio, places) {
  const shown = text.length > LONGEST_LABEL ? `${text.slice(0, LONGEST_LABEL - 1)}…` : text;
  const width = context.measureText(shown).width + 8 * ratio;
  const height = 18 * ratio;
  const x = Math.max(0, Math.min(box[0] * scale, context.canvas.width - width));
  const above = box[1] * scale - height;
  let y = above < 0 ? Math.max(0, box[1] * scale) : above;
  const isTaken = (place) =>
    x < place.x + place.width && place.x < x + width && y < place.y + height && place.y < y + height;
  for (let place; (place = places.find(isTaken)); ) y = place.y + height;
  places.push({ x, y, width });
  context.fillStyle = `rgb(${color})`;
  context.fillRect(x, y, width, height);
  const [red, green, blue] = color;
  context.fillStyle = red * 0.299 + green * 0.587 + blue * 0.114 > 140 ? "#000" : "#fff";
  context.fillText(shown, x + 4 * ratio, y + 2 * ratio);
}

function drawKeypoints(context, { keypoints, color }, skeleton, scale, line) {
  if (!keypoints) return;
  // White stands out from a mask of the object's colour.
  context.strokeStyle = "#fff";
  context.fillStyle = `rgb(${color})`;
  context.lineWidth = line;
  for (const [a, b] of skeleton) {
    context.beginPath();
    context.moveTo(keypoints[a][0] * scale, keypoints[a][1] * scale);
    context.lineTo(keypoints[b][0] * scale, keypoints[b][1] * scale);
    context.stroke();
  }
  for (const [x, y] of keypoints) {
    context.beginPath();
    context.arc(x * scale, y * scale, 2 * line, 0, 2 * Math.PI);
    context.fill();
    context.stroke();
  }
}
