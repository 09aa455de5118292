// Pictures of frames: their addresses, and the caches of decoded ones.

import {frameAddress, frameOf, previewAddress} from "./addresses.js";
import {Loader} from "./loader.js";

const FULL_SIDE = 1920;
const PLAY_SIDE = 960; // while playing, a large video is shown smaller so that it keeps its pace
const CAPACITY = 72e6; // pixels of decoded pictures that are kept, four bytes each

export class Pictures {
  constructor(video, arrived) {
    const longer = Math.max(video.width, video.height);
    this.fullSide = longer > FULL_SIDE ? FULL_SIDE : null;
    this.playSide = longer > 1280 ? PLAY_SIDE : this.fullSide;
    this.loader = new Loader({
      decode: async (response) => createImageBitmap(await response.blob()),
      most: 3,
      weigh: (bitmap) => bitmap.width * bitmap.height,
      capacity: CAPACITY,
      arrived: (address) => arrived(frameOf(address)),
      release: (bitmap) => bitmap.close(),
    });
  }

  full = (frame) => frameAddress(frame, this.fullSide);
  play = (frame) => frameAddress(frame, this.playSide);
  preview = previewAddress;

  /** The sharpest picture of a frame that has arrived, or undefined. */
  best(frame) {
    return (
      this.loader.get(this.full(frame)) ?? this.loader.get(this.play(frame)) ?? this.loader.get(this.preview(frame))
    );
  }

  has(frame) {
    return [this.full, this.play, this.preview].some((address) => this.loader.has(address(frame)));
  }

  failure(frame) {
    const {loader} = this;
    return loader.failure(this.full(frame)) ?? loader.failure(this.play(frame)) ?? loader.failure(this.preview(frame));
  }
}

/** Small pictures for the timeline, scaled down on arrival so that many can be kept. */
export function thumbLoader(height, arrived) {
  return new Loader({
    decode: async (response) => {
      const whole = await createImageBitmap(await response.blob());
      const small = document.createElement("canvas");
      small.height = height;
      small.width = Math.max(1, Math.round((whole.width * height) / whole.height));
      const drawing = small.getContext("2d");
      drawing.imageSmoothingQuality = "high";
      drawing.drawImage(whole, 0, 0, small.width, small.height);
      whole.close();
      return small;
    },
    most: 1,
    capacity: 400,
    arrived,
  });
}
