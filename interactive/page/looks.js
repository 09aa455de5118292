// How masks look: turns a label map into an image for one of the modes, built once for each map, mode and colouring.

/** The modes in their order, with the layer of the map that each of them draws. */
export const MODES = [
  {name: "overlay", text: "Colour overlay", kind: "fill"},
  {name: "contours", text: "Contours", kind: "edge"},
  {name: "colour", text: "Colour on grey", kind: "cut"},
  {name: "fade", text: "Faded background", kind: "cut"},
  {name: "alone", text: "Current object alone", kind: "cut"},
];

const CAPACITY = 24e6; // pixels of built layers that are kept

/** What the objects' list and the mode come to: a colour for each label (0: not drawn), and a key for caches. */
export class Style {
  constructor(objects, mode, current) {
    this.kind = MODES.find((other) => other.name === mode).kind;
    this.palette = new Uint32Array(256);
    for (const {label, colour, hidden} of objects) {
      if (hidden || (mode === "alone" && label !== current)) continue;
      this.palette[label] = this.kind === "cut" ? 0xffffffff : packed(colour);
    }
    this.key = `${this.kind} ${this.palette.join()}`;
  }
}

/** A colour as the four bytes of an ImageData pixel, read as one little-endian number. */
function packed(colour) {
  const value = parseInt(colour.slice(1), 16);
  return ((0xff << 24) | ((value & 0xff) << 16) | (value & 0xff00) | (value >> 16)) >>> 0;
}

/** Lines must be seen on large videos, which are shown smaller than they are. */
const thickness = (width, height) => Math.max(1, Math.round(Math.max(width, height) / 700));

/** A canvas with the image of one label map; `box` = [x0, y0, x1, y1] in pixels paints it again only there. */
export class Layer {
  constructor(width, height) {
    this.canvas = document.createElement("canvas");
    this.canvas.width = width;
    this.canvas.height = height;
    this.drawing = this.canvas.getContext("2d");
    this.image = this.drawing.createImageData(width, height);
    this.pixels = new Uint32Array(this.image.data.buffer);
  }

  paintMap(map, style) {
    if (style.kind === "edge") {
      this.paintLabels(map.labels, style, [0, 0, map.width, map.height]);
    } else {
      map.paintRuns(this.pixels, style.palette);
      this.drawing.putImageData(this.image, 0, 0);
    }
  }

  paintLabels(labels, style, box) {
    const {width, height} = this.canvas;
    const reach = style.kind === "edge" ? thickness(width, height) : 0;
    const [x0, y0] = [Math.max(0, box[0] - reach), Math.max(0, box[1] - reach)];
    const [x1, y1] = [Math.min(width, box[2] + reach), Math.min(height, box[3] + reach)];
    if (x1 <= x0 || y1 <= y0) return;
    const {pixels} = this;
    const {palette} = style;
    for (let y = y0; y < y1; y++) {
      // At the picture's border a pixel is its own neighbour: an object that leaves the picture has no edge there.
      const up = y >= reach ? -reach * width : 0;
      const down = y + reach < height ? reach * width : 0;
      for (let x = x0, at = y * width + x0; x < x1; x++, at++) {
        const label = labels[at];
        let value = palette[label];
        if (reach && value) {
          const left = x >= reach ? -reach : 0;
          const right = x + reach < width ? reach : 0;
          const inside =
            labels[at + left] === label &&
            labels[at + right] === label &&
            labels[at + up] === label &&
            labels[at + down] === label;
          if (inside) value = 0;
        }
        pixels[at] = value;
      }
    }
    this.drawing.putImageData(this.image, 0, 0, x0, y0, x1 - x0, y1 - y0);
  }
}

/** The layers last used. */
export class Layers {
  constructor() {
    this.layers = new Map();
  }

  get(id, map, style) {
    const key = `${id} ${style.key}`;
    let layer = this.layers.get(key);
    if (!layer) {
      layer = new Layer(map.width, map.height);
      layer.paintMap(map, style);
    }
    this.layers.delete(key);
    this.layers.set(key, layer);
    const most = Math.max(3, Math.min(16, Math.floor(CAPACITY / (map.width * map.height))));
    for (const old of this.layers.keys()) {
      if (this.layers.size <= most) break;
      this.layers.delete(old);
    }
    return layer.canvas;
  }
}
