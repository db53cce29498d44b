// Draws the figure anew whenever the RoI, the marked bin or the kind of reduction changes.
const figure = document.querySelector(".roi-figure");
const mapSvg = figure.querySelector(".roi-map");
const featureMap = JSON.parse(figure.dataset.map);
const STRIDE = Number(figure.dataset.stride);
const FIRST_ROI = JSON.parse(figure.dataset.roi);
const LOW = -Number(figure.dataset.reach);
const HIGH = featureMap.length * STRIDE - STRIDE - LOW;
const panels = [...figure.querySelectorAll(".roi-panel")];
const fields = [...figure.querySelectorAll(".roi-fields input")];
const parts = [...mapSvg.querySelectorAll("[data-moves]")];
const refusal = figure.querySelector(".roi-refused");
const state = { roi: [...FIRST_ROI], marked: Number(figure.dataset.marked), maximum: false };

const boxPath = (box) => {
  const [x1, y1, x2, y2] = box.map((value) => value.toFixed(3));
  return `M${x1} ${y1}H${x2}V${y2}H${x1}Z`;
};
const dotsPath = (points) => points.map(([x, y]) => `M${x.toFixed(3)} ${y.toFixed(3)}h0`).join("");
const meanOf = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const clamped = (value, low, high) => Math.min(Math.max(value, low), high);
const signed = (value) => (value ? `${value < 0 ? "\u2212" : "+"}${Math.abs(value).toFixed(1)}` : "0");
const real = (value) => String(value).replace("-", "\u2212");
const centreOf = ([x1, y1, x2, y2]) => [(x1 + x2) / 2, (y1 + y2) / 2];

function showRegion(view, [x1, y1, x2, y2]) {
  const side = Math.max(x2 - x1, y2 - y1, 1) + 2;
  view.setAttribute("viewBox", [(x1 + x2 - side) / 2, (y1 + y2 - side) / 2, side, side].join(" "));
  view.style.setProperty("--side", side);
}

function draw() {
  const given = state.roi.map((pixel) => pixel / STRIDE);
  const readings = panels.map((panel) => readRoI(panel.dataset.operation, featureMap, given, state.maximum));
  panels.forEach((panel, index) => drawPanel(panel, readings[index], readings.at(-1), given));
  const [x1, y1, x2, y2] = given;
  mapSvg.querySelector(".roi-given").setAttribute("d", boxPath(given));
  mapSvg.querySelector(".roi-corners").setAttribute("d", dotsPath([[x1, y1], [x2, y1], [x1, y2], [x2, y2]]));
  parts.forEach((part) => placePart(part, given));
  fields.forEach((field, index) => {
    if (!before || field !== document.activeElement) field.value = state.roi[index];
  });
}

function drawPanel(panel, reading, aligned, given) {
  const marked = reading.bins[state.marked];
  const put = (name, path) => panel.querySelector(name).setAttribute("d", path);
  showRegion(panel.querySelector(".roi-view"), given);
  put(".roi-given", boxPath(given));
  put(".roi-rounded", boxPath(reading.corners));
  put(".roi-bins", reading.bins.map((bin) => boxPath(bin.box)).join(""));
  put(".roi-points", dotsPath(reading.bins.flatMap((bin) => bin.points)));
  put(".roi-marked-bin", boxPath(marked.box));
  put(".roi-marked-points", dotsPath(marked.points));
  put(".roi-cells-read", marked.weights.map(([row, column]) =>
    boxPath([column - 0.5, row - 0.5, column + 0.5, row + 0.5])).join(""));
  panel.querySelector(".roi-weights").replaceChildren(...marked.weights.map(weightText));
  drawOutput(panel.querySelector(".roi-output"), reading);
  drawNumbers(panel, reading, aligned);
}

function weightText([row, column, weight]) {
  const text = document.createElementNS("http://www.w3.org/2000/svg", "text");
  text.setAttribute("x", column);
  text.setAttribute("y", row);
  text.textContent = weight.toFixed(2).replace(/^0|\.00$/g, "");
  return text;
}

function drawOutput(output, reading) {
  const texts = output.querySelectorAll("text");
  output.querySelectorAll("rect.roi-cell").forEach((rectangle, index) => {
    rectangle.style.setProperty("--value", reading.bins[index].value / 99);
    texts[index].textContent = reading.bins[index].value.toFixed(0);
  });
  const [row, column] = [Math.floor(state.marked / BINS), state.marked % BINS];
  output.querySelector(".roi-marked-bin").setAttribute("d", boxPath([column, row, column + 1, row + 1]));
  output.setAttribute("aria-valuenow", state.marked + 1);
  output.setAttribute("aria-valuetext",
    `row ${row + 1}, column ${column + 1}: ${reading.bins[state.marked].value.toFixed(1)}`);
}

function drawNumbers(panel, reading, aligned) {
  const moved = reading.corners.map((corner, index) => corner * STRIDE - state.roi[index]);
  const distances = reading.bins.map((bin, index) => {
    const [here, there] = [bin, aligned.bins[index]].map(({ box }) => centreOf(box));
    return Math.hypot(here[0] - there[0], here[1] - there[1]) * STRIDE;
  });
  const differences = reading.bins.map((bin, index) => Math.abs(bin.value - aligned.bins[index].value));
  const { value, weights } = reading.bins[state.marked];
  const terms = weights.map(([row, column, weight]) => `${weight.toFixed(2)}\u00b7${featureMap[row][column]}`);
  const texts = {
    sum: `${terms.join(" + ") || "nothing"} = ${value.toFixed(1)}`,
    moved: moved.map(signed).join(", "),
    shift: meanOf(moved.map(Math.abs)).toFixed(1),
    apart: meanOf(distances).toFixed(1),
    difference: meanOf(differences).toFixed(1),
  };
  for (const [name, text] of Object.entries(texts)) panel.querySelector(`[data-number=${name}]`).textContent = text;
}

const movesOf = (part) => part.dataset.moves.split(" ").map(Number);

function placePart(part, given) {
  const moves = movesOf(part);
  if (part.tagName === "circle") {
    part.setAttribute("cx", given[moves[0]]);
    part.setAttribute("cy", given[moves[1]]);
  } else part.setAttribute("d", boxPath(given));
  part.setAttribute("aria-valuenow", state.roi[moves[0]]);
  part.setAttribute("aria-valuetext", moves.map((index) => `${"xyxy"[index]} ${state.roi[index]}`).join(", "));
}

// Moves some of the coordinates x1, y1, x2, y2, as far as the map's surroundings and the other corner allow.
function move(roi, moves, steps) {
  const result = [...roi];
  for (const axis of [0, 1]) {
    const along = moves.filter((index) => index % 2 === axis);
    const lows = along.map((i) => (i > 1 && !along.includes(i - 2) ? roi[i - 2] + 1 : LOW) - roi[i]);
    const highs = along.map((i) => (i < 2 && !along.includes(i + 2) ? roi[i + 2] - 1 : HIGH) - roi[i]);
    for (const i of along) result[i] = roi[i] + clamped(steps[axis], Math.max(...lows), Math.min(...highs));
  }
  show(result);
}

function show(roi) {
  refusal.textContent = "";
  state.roi = roi;
  draw();
}

// The RoI from before a number was typed: until it is whole, each of its digits gives another RoI.
let before = null;

function onType(field, index) {
  before ??= state.roi;
  const value = field.valueAsNumber;
  const fits = field.validity.valid && Number.isFinite(value);
  show(fits ? withCoordinate(before, index, value) : before);
  if (!fits && (field.value || field.validity.badInput))
    refusal.textContent = `${COORDINATES[index]} stays ${real(before[index])}: it may be ${real(field.min)} to ${real(field.max)} px.`;
}

// The other corner goes along, as far as the map's surroundings, if this one would pass it.
function withCoordinate(roi, index, value) {
  const result = [...roi];
  result[index] = value;
  const [first, last] = [index % 2, (index % 2) + 2];
  const other = index === first ? last : first;
  const along = Math.round((roi[other] + value - roi[index]) * 1000) / 1000;
  if (result[last] - result[first] < 1) result[other] = clamped(along, LOW, HIGH);
  return result;
}

function endTyping() {
  before = null;
  draw();
  announce();
}

function announce() {
  const [pool, warp] = panels.map((panel) => panel.querySelector("[data-number=difference]").textContent);
  figure.querySelector("[role=status]").textContent =
    `RoI ${state.roi.join(", ")} pixels. Mean difference to RoIAlign: RoIPool ${pool}, RoIWarp ${warp}.`;
}

const COORDINATES = ["x1", "y1", "x2", "y2"];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function onKey(event) {
  const arrow = ARROWS[event.key];
  if (!arrow || event.ctrlKey || event.altKey || event.metaKey) return;
  const { target } = event;
  if (target.dataset.moves) move(state.roi, movesOf(target), arrow.map((step) => step * (event.shiftKey ? STRIDE : 1)));
  else if (target.matches(".roi-output")) {
    const column = clamped((state.marked % BINS) + arrow[0], 0, BINS - 1);
    mark(column, clamped(Math.floor(state.marked / BINS) + arrow[1], 0, BINS - 1));
  } else return;
  event.preventDefault();
  announce();
}

function mark(column, row) {
  state.marked = row * BINS + column;
  draw();
}

function pointIn(svg, event) {
  return new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
}

function onPointerDown(event) {
  const { target } = event;
  if (!target.dataset.moves || event.button) return;
  const [start, roi] = [pointIn(mapSvg, event), state.roi];
  const drag = (later) => {
    const point = pointIn(mapSvg, later);
    move(roi, movesOf(target), [point.x - start.x, point.y - start.y].map((cells) => Math.round(cells * STRIDE)));
  };
  target.setPointerCapture(event.pointerId);
  target.addEventListener("pointermove", drag);
  target.addEventListener("lostpointercapture", () => {
    target.removeEventListener("pointermove", drag);
    announce();
  }, { once: true });
}

function begin() {
  figure.classList.add("roi-live");
  const slider = { role: "slider", tabindex: "0" };
  const give = (element, attributes) =>
    Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
  give(mapSvg, { role: "group" });
  parts.forEach((part) => give(part, { ...slider, "aria-valuemin": LOW, "aria-valuemax": HIGH }));
  figure.querySelectorAll(".roi-output").forEach((output) => {
    give(output, { ...slider, "aria-valuemin": 1, "aria-valuemax": BINS * BINS });
    output.addEventListener("click", (event) => {
      const point = pointIn(output, event);
      mark(...[point.x, point.y].map((place) => clamped(Math.floor(place), 0, BINS - 1)));
    });
  });
  mapSvg.addEventListener("pointerdown", onPointerDown);
  // A finger beside the RoI scrolls the page; touch-action would not tell the parts of an SVG apart.
  mapSvg.addEventListener("touchstart", (event) => event.target.dataset.moves && event.preventDefault(), { passive: false });
  figure.addEventListener("keydown", onKey);
  fields.forEach((field, index) => {
    field.addEventListener("input", () => onType(field, index));
    field.addEventListener("change", endTyping);
    field.addEventListener("blur", endTyping);
  });
  figure.querySelector(".roi-controls").addEventListener("click", ({ target }) => {
    if (!target.dataset.to) return;
    before = null;
    show(JSON.parse(target.dataset.to));
    announce();
  });
  figure.querySelector(".roi-maximum").addEventListener("change", ({ target }) => {
    state.maximum = target.checked;
    draw();
    announce();
  });
  draw();
}

begin();
