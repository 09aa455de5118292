// Where the frame lies on the stage: zoom and pan. Screen points are CSS pixels from the stage's top left corner.

const MOST_SCALE = 40; // screen pixels for one of the image
const MARGIN = 12; // around a frame that is fitted, so that its border can be drawn on

export class Camera {
  constructor(view, image, changed) {
    Object.assign(this, {view, image, changed});
    this.width = this.height = 1;
    view.on(["camera"], () => this.changed());
  }

  resize(width, height) {
    this.width = Math.max(1, width);
    this.height = Math.max(1, height);
    this.changed();
  }

  get fitScale() {
    const {width, height} = this.image;
    const margin = this.width > 300 ? MARGIN : 0;
    return Math.min((this.width - 2 * margin) / width, (this.height - 2 * margin) / height);
  }

  get scale() {
    return this.view.camera?.scale ?? this.fitScale;
  }

  /** Screen position of the image's top left corner. */
  get origin() {
    const {scale} = this;
    const {x, y} = this.view.camera ?? {x: this.image.width / 2, y: this.image.height / 2};
    return [this.width / 2 - x * scale, this.height / 2 - y * scale];
  }

  toImage([x, y]) {
    const [left, top] = this.origin;
    return [(x - left) / this.scale, (y - top) / this.scale];
  }

  toScreen([x, y]) {
    const [left, top] = this.origin;
    return [x * this.scale + left, y * this.scale + top];
  }

  /** Zooms so that the image point under `at` stays there. */
  zoom(factor, at = [this.width / 2, this.height / 2]) {
    const [x, y] = this.toImage(at);
    this.#look(this.scale * factor, [x, y], at);
  }

  /** Moves the image with the hand. */
  pan(dx, dy) {
    const middle = [this.width / 2, this.height / 2];
    this.#look(this.scale, this.toImage([middle[0] - dx, middle[1] - dy]), middle);
  }

  fit() {
    this.view.set({camera: null});
  }

  /** One screen pixel for each pixel of the image. */
  actual() {
    this.zoom(1 / this.scale);
  }

  #look(scale, [x, y], at) {
    scale = Math.min(MOST_SCALE, Math.max(this.fitScale / 4, scale));
    const clamp = (value, most) => Math.min(most, Math.max(0, value));
    // The middle of the stage stays within the image: it cannot be lost.
    const camera = {
      scale,
      x: clamp(x + (this.width / 2 - at[0]) / scale, this.image.width),
      y: clamp(y + (this.height / 2 - at[1]) / scale, this.image.height),
    };
    this.view.set({camera});
  }
}
