// Masks as COCO's compressed run lengths: see maskApi.c, rleFrString, of pycocotools for the format.

/** The run lengths in a text: differences to the run before the last, in chunks of five bits, from code 48 up. */
export function runs(text) {
  const counts = [];
  for (let at = 0; at < text.length;) {
    let value = 0, shift = 0, chunk;
    do {
      chunk = text.charCodeAt(at++) - 48;
      value |= (chunk & 31) << shift;
      shift += 5;
    } while (chunk & 32);
    if (chunk & 16) value |= -1 << shift;
    counts.push(counts.length > 2 ? value + counts.at(-2) : value);
  }
  return counts;
}

/** A mask, row by row, 1 inside; the runs go column by column, the first one is outside. */
export function decode({size: [height, width], counts}) {
  const inside = new Uint8Array(height * width);
  let at = 0, value = 0;
  for (const length of runs(counts)) {
    if (value) for (let end = at + length, each = at; each < end; each++) {
      inside[(each % height) * width + Math.floor(each / height)] = 1;
    }
    at += length;
    value = 1 - value;
  }
  return {width, height, inside};
}

/** Pixels inside, and the box around them as x, y, width, height. */
export function measure({width, height, inside}) {
  let area = 0, left = width, top = height, right = -1, bottom = -1;
  for (let y = 0, at = 0; y < height; y++) for (let x = 0; x < width; x++, at++) if (inside[at]) {
    area++;
    left = Math.min(left, x), right = Math.max(right, x), top = Math.min(top, y), bottom = Math.max(bottom, y);
  }
  return {area, bbox: area ? [left, top, right - left + 1, bottom - top + 1] : [0, 0, 0, 0]};
}

/** Draw a mask into two canvases of its size, its inside and its edge; `null` empties them. */
export function draw(mask, fill, edge) {
  if (mask === null) {
    for (const canvas of [fill, edge]) canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    return;
  }
  const {width, height, inside} = mask;
  const [within, around] = [new ImageData(width, height), new ImageData(width, height)];
  const [blue, white] = [new Uint32Array(within.data.buffer), new Uint32Array(around.data.buffer)];
  for (let y = 0, at = 0; y < height; y++) for (let x = 0; x < width; x++, at++) if (inside[at]) {
    blue[at] = 0xffff901e;  // alpha, blue, green, red
    const surrounded = x && y && x < width - 1 && y < height - 1
      && inside[at - 1] && inside[at + 1] && inside[at - width] && inside[at + width];
    if (!surrounded) white[at] = 0xffffffff;
  }
  for (const [canvas, pixels] of [[fill, within], [edge, around]]) {
    [canvas.width, canvas.height] = [width, height];
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  }
}

/** A PNG file of a mask, white inside and black outside. */
export function png({width, height, inside}) {
  const canvas = new OffscreenCanvas(width, height);
  const pixels = new ImageData(width, height);
  const values = new Uint32Array(pixels.data.buffer);
  for (let at = 0; at < values.length; at++) values[at] = inside[at] ? 0xffffffff : 0xff000000;
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas.convertToBlob({type: "image/png"});
}
