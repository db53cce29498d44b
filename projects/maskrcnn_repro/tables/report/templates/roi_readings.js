"use strict";
// What RoIPool, RoIWarp and RoIAlign make of an RoI on a feature map. Coordinates are feature cells with the centre of
// the first cell at 0. Positions are rounded to single precision, as the models' are: a bin may end on a cell's border.
const BINS = 7;
const SAMPLES = 2;
const single = Math.fround;
const OPERATIONS = {
  RoIPool: poolAxis,
  RoIWarp: (start, end) => sampleAxis(...[start, end].map((corner) => Math.floor(single(corner + 0.5)))),
  RoIAlign: sampleAxis,
};

// Of one axis: the corners as rounded, and for each bin its edges and the points that it reads.
function poolAxis(start, end) {
  const [first, last] = [start, end].map((corner) => Math.sign(corner) * Math.floor(Math.abs(corner) + 0.5));
  const size = single(Math.max(last - first + 1, 1) / BINS);
  const bins = numbers(BINS).map((bin) => {
    const low = first + Math.floor(single(bin * size));
    const high = first + Math.ceil(single((bin + 1) * size));
    return { edges: [low - 0.5, high - 0.5], points: numbers(high - low).map((cell) => low + cell) };
  });
  return { corners: [first, last], bins };
}

function sampleAxis(start, end) {
  // An RoI is at least one cell long, as in the first Detectron.
  const size = single(Math.max(single(end - start), 1) / BINS);
  const bins = numbers(BINS).map((bin) => {
    const low = single(start + single(bin * size));
    const points = numbers(SAMPLES).map((k) => single(low + single(single((k + 0.5) * size) / SAMPLES)));
    return { edges: [low, start + (bin + 1) * size], points };
  });
  return { corners: [start, end], bins };
}

const numbers = (count) => Array.from({ length: count }, (_, index) => index);

// Cells that linear interpolation at a point reads, with their weights: none more than a cell outside the map.
function taps(point, length) {
  if (point < -1 || point > length) return [];
  const inside = Math.min(Math.max(point, 0), length - 1);
  const low = Math.floor(inside);
  return [[low, 1 - (inside - low)], [Math.min(low + 1, length - 1), inside - low]];
}

// A sample is a list of row, column and weight of cells; RoIPool's are the cells that lie on the map.
function samplesOf(operation, rows, columns, map) {
  const read = operation === "RoIPool"
    ? (cell, length) => (cell >= 0 && cell < length ? [[cell, 1]] : [])
    : taps;
  const samples = rows.flatMap((y) => columns.map((x) =>
    read(y, map.length).flatMap(([row, a]) => read(x, map[0].length).map(([column, b]) => [row, column, a * b]))));
  return operation === "RoIPool" ? samples.filter((cells) => cells.length) : samples;
}

// The value of a bin, and the weight of each cell in it.
function reduced(samples, map, maximum) {
  if (!samples.length) return { value: 0, weights: [] };
  const values = samples.map((cells) => cells.reduce((sum, [row, column, weight]) => sum + weight * map[row][column], 0));
  const best = values.indexOf(Math.max(...values));
  const share = maximum ? 1 : 1 / samples.length;
  const weights = new Map();
  for (const [row, column, weight] of maximum ? samples[best] : samples.flat()) {
    const key = `${row} ${column}`;
    weights.set(key, [row, column, (weights.get(key)?.[2] ?? 0) + weight * share]);
  }
  const value = maximum ? values[best] : values.reduce((sum, each) => sum + each, 0) / values.length;
  const inOrder = [...weights.values()].sort((one, other) => one[0] - other[0] || one[1] - other[1]);
  return { value, weights: inOrder.filter(([, , weight]) => weight > 0) };
}

// What an operation makes of an RoI: x1, y1, x2, y2 as rounded, and for each bin, row by row, its box, points x, y, value
// and weights. RoIPool takes the maximum of cells whatever is asked for.
function readRoI(operation, map, roi, maximum) {
  const [x1, y1, x2, y2] = roi.map(single);
  const columns = OPERATIONS[operation](x1, x2);
  const rows = OPERATIONS[operation](y1, y2);
  const bins = rows.bins.flatMap((y) => columns.bins.map((x) => ({
    box: [x.edges[0], y.edges[0], x.edges[1], y.edges[1]],
    points: y.points.flatMap((row) => x.points.map((column) => [column, row])),
    ...reduced(samplesOf(operation, y.points, x.points, map), map, maximum || operation === "RoIPool"),
  })));
  return { corners: [columns.corners[0], rows.corners[0], columns.corners[1], rows.corners[1]], bins };
}
