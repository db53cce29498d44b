// The page: sends a picture to this server once; slider and classes choose among its answer.

import { colorOf, drawAll, maskImage } from "./drawing.js";

const byId = (id) => document.getElementById(id);
const canvas = byId("picture");
const state = { model: null, file: null, bitmap: null, answer: null, hidden: new Set(), marked: null, scale: 0 };
let asking = null;

const count = (number, noun, plural = `${noun}s`) => `${number} ${number === 1 ? noun : plural}`;
const megabytes = (bytes) => `${(bytes / 2 ** 20).toPrecision(2)} MiB`;

async function fetchJson(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer; has it ended?");
  }
  const content = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(content.error ?? `The server answered with status ${response.status}.`);
  return content;
}

async function begin() {
  document.querySelector("main").classList.add("empty");
  const model = await fetchJson("model");
  state.model = model;
  const { min_size: least, max_size: most } = model.input;
  byId("name").textContent = document.title = model.name;
  byId("about").textContent = [
    count(model.classes.length, "class", "classes"),
    model.masks ? "masks" : "boxes",
    ...(model.keypoints.length ? [count(model.keypoints.length, "keypoint")] : []),
    least ? `pictures resized to ${least}, at most ${most} px` : "pictures of their own size",
    model.device,
  ].join(" · ");
  byId("threshold").min = model.threshold;
  byId("threshold").value = Math.max(0.5, model.threshold);
  for (const [layer, isThere] of [["masks", model.masks], ["keypoints", model.keypoints.length > 0]]) {
    byId("layers").querySelector(`[value=${layer}]`).parentElement.hidden = !isThere;
  }
}

function say(text) {
  byId("status").textContent = text;
}

function complain(text) {
  byId("error").textContent = text;
  byId("error").hidden = !text;
}

async function show(file) {
  asking?.abort();
  const mine = (asking = new AbortController());
  complain("");
  say(`${file.name}: looking …`);
  try {
    const limit = state.model?.limits.bytes ?? Infinity;
    if (file.size > limit) throw new Error(`${file.name} has ${megabytes(file.size)}; allowed are ${megabytes(limit)}.`);
    const [answer, bitmap] = await Promise.all([
      fetchJson("predict", {
        method: "POST",
        body: file,
        headers: { "Content-Type": "application/octet-stream" },
        signal: mine.signal,
      }),
      createImageBitmap(file).catch(() => null),
    ]);
    if (mine === asking) accept(file, answer, bitmap);
  } catch (error) {
    if (error.name === "AbortError") return;
    say("");
    complain(error.message);
  }
}

function accept(file, answer, bitmap) {
  const { category_ids: ids } = state.model;
  answer.detections.forEach((detection, index) => {
    detection.color = colorOf(ids.length > 1 ? detection.class_id : index);
    detection.text = `${detection.class_name} ${detection.score.toFixed(2)}`;
  });
  Object.assign(state, { file, answer, bitmap, marked: null, scale: 0 });
  state.hidden.clear();
  document.querySelector("main").className = "filled";
  canvas.hidden = byId("side").hidden = false;
  const seen = bitmap ? "" : " This browser cannot show the picture itself.";
  say(`${file.name}: ${answer.width} × ${answer.height} px, ${answer.seconds.toFixed(2)} s.${seen}`);
  listClasses();
  refresh();
}

function surest() {
  const least = Number(byId("threshold").value);
  return state.answer ? state.answer.detections.filter(({ score }) => score >= least) : [];
}

function chosen() {
  return surest().filter((detection) => !state.hidden.has(detection.class_id));
}

function listClasses() {
  const ids = [...new Set(state.answer.detections.map((detection) => detection.class_id))].sort((a, b) => a - b);
  byId("classes").replaceChildren(
    ...ids.map((id) => {
      const label = document.createElement("label");
      const box = document.createElement("input");
      box.type = "checkbox";
      box.checked = true;
      box.dataset.id = id;
      box.addEventListener("change", () => {
        state.hidden[box.checked ? "delete" : "add"](id);
        refresh();
      });
      label.append(box, part("span", state.model.classes[id]), part("span", "", "score"));
      return label;
    }),
  );
}

function part(tag, text, kind = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  element.className = kind;
  return element;
}

function swatch([red, green, blue]) {
  const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  icon.setAttribute("viewBox", "0 0 10 10");
  icon.setAttribute("class", "swatch");
  icon.setAttribute("aria-hidden", "true");
  const square = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  square.setAttribute("width", "10");
  square.setAttribute("height", "10");
  square.setAttribute("fill", `rgb(${red},${green},${blue})`);
  icon.append(square);
  return icon;
}

function refresh() {
  byId("score").textContent = Number(byId("threshold").value).toFixed(2);
  if (!state.answer) return;
  const detections = chosen();
  if (!detections.includes(state.marked)) state.marked = null;
  const ofClass = new Map();
  for (const { class_id: id } of surest()) ofClass.set(id, (ofClass.get(id) ?? 0) + 1);
  for (const box of byId("classes").querySelectorAll("input")) {
    box.parentElement.lastChild.textContent = ofClass.get(Number(box.dataset.id)) ?? 0;
  }
  byId("count").textContent = `${detections.length} of ${count(state.answer.detections.length, "object")} shown`;
  byId("list").replaceChildren(...detections.map(rowOf));
  const names = detections.map(({ text }) => text).join(", ");
  canvas.setAttribute("aria-label", `${state.file.name}: ${count(detections.length, "object")}. ${names}`);
  draw();
}

function rowOf(detection) {
  const row = document.createElement("li");
  const button = document.createElement("button");
  const score = part("span", detection.score.toFixed(2), "score");
  button.type = "button";
  button.append(swatch(detection.color), part("span", detection.class_name, "text"), score);
  for (const event of ["mouseenter", "focus"]) button.addEventListener(event, () => mark(detection));
  for (const event of ["mouseleave", "blur"]) button.addEventListener(event, () => mark(null));
  row.append(button);
  return row;
}

function mark(detection) {
  state.marked = detection;
  draw();
}

function draw() {
  const { answer, bitmap } = state;
  if (!answer) return;
  const ratio = window.devicePixelRatio || 1;
  const room = canvas.parentElement.clientWidth;
  const width = Math.min(room, (0.8 * window.innerHeight * answer.width) / answer.height);
  const scale = (width * ratio) / answer.width;
  if (scale !== state.scale) resize(scale, ratio);
  const context = canvas.getContext("2d");
  context.fillStyle = "#888";
  context.fillRect(0, 0, canvas.width, canvas.height);
  if (bitmap) context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const layers = new Set([...byId("layers").querySelectorAll(":checked")].map((box) => box.value));
  const names = state.model.keypoints;
  const skeleton = state.model.skeleton.map((limb) => limb.map((name) => names.indexOf(name)));
  const detections = chosen();
  if (layers.has("masks")) detections.forEach(addMask);
  drawAll(context, detections, layers, scale, ratio, skeleton, state.marked);
}

function resize(scale, ratio) {
  const { answer } = state;
  state.scale = scale;
  canvas.width = Math.max(1, Math.round(answer.width * scale));
  canvas.height = Math.max(1, Math.round(answer.height * scale));
  canvas.style.width = `${canvas.width / ratio}px`;
  answer.detections.forEach((detection) => delete detection.image);
}

function addMask(detection) {
  if (detection.mask && detection.image === undefined) {
    detection.image = maskImage(detection.mask, detection.box, state.scale, detection.color);
  }
}

function download() {
  const entries = chosen().map(({ box: [x1, y1, x2, y2], category_id, score, mask, keypoints }) => ({
    file_name: state.file.name,
    category_id,
    bbox: [x1, y1, x2 - x1, y2 - y1],
    score,
    ...(mask && { segmentation: mask }),
    // COCO counts pixels of keypoints from the centre of the first one.
    ...(keypoints && { keypoints: keypoints.flatMap(([x, y, s]) => [x - 0.5, y - 0.5, s]) }),
  }));
  const address = URL.createObjectURL(new Blob([JSON.stringify(entries)], { type: "application/json" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = `${state.file.name.replace(/\.[^.]*$/, "")}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

function take(files) {
  const file = [...(files ?? [])].find(({ type, size }) => size && (!type || type.startsWith("image/")));
  if (file) show(file);
  else complain("That is no picture file; drop one from a folder, not from another page.");
}

function tickAll(isTicked) {
  for (const box of byId("classes").querySelectorAll("input")) {
    box.checked = isTicked;
    state.hidden[isTicked ? "delete" : "add"](Number(box.dataset.id));
  }
  refresh();
}

byId("file").addEventListener("change", ({ target }) => {
  if (target.files.length) take(target.files);
  target.value = "";
});
document.addEventListener("paste", (event) => event.clipboardData.files.length && take(event.clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  byId("drop").classList.add("over");
});
document.addEventListener("dragleave", () => byId("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  byId("drop").classList.remove("over");
  take(event.dataTransfer.files);
});
byId("threshold").addEventListener("input", refresh);
byId("layers").addEventListener("change", draw);
byId("all").addEventListener("click", () => tickAll(true));
byId("none").addEventListener("click", () => tickAll(false));
byId("download").addEventListener("click", download);
window.addEventListener("resize", () => requestAnimationFrame(draw));
begin().catch((error) => complain(error.message));
