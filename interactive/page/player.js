// Moving through the video: going to frames, playing, jumping, and keeping with the frame that is being followed.

import {ANNOTATED} from "./frame_index.js";

export const SPEEDS = [0.25, 0.5, 1, 2, 4];
const REST_AFTER = 140; // milliseconds without a move after which scrubbing is over

export class Player {
  constructor({state, view, stage, index, say, changed}) {
    Object.assign(this, {state, view, stage, index, say, changed});
    this.playing = false;
    this.live = false; // whether the frame being followed is shown as it comes
    this.ranked = null; // the last jump by change or uncertainty: {measure, rank, frame}
    this.timer = null;
    this.following = state.now.following;
    state.on(["following", "frames"], (changed) => this.#followed(changed.get("frames")));
    state.on(["video"], () => this.view.set({frame: Math.min(this.view.frame, state.last)}));
  }

  /** Goes to a frame because the user said so: that stops playing and lets go of the live frame. */
  go(frame) {
    this.pause();
    this.release();
    this.#set(frame);
    this.stage.setPace("rest");
  }

  step(by) {
    this.go(this.view.frame + by);
  }

  /** Goes to a frame while the hand still moves; the full picture comes when it rests. */
  scrub(frame) {
    this.pause();
    this.release();
    this.stage.setPace("scrub");
    this.#set(frame);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.stage.setPace(this.live ? "live" : "rest"), REST_AFTER);
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    this.release();
    if (this.view.frame >= this.state.last) this.#set(0);
    this.playing = true;
    this.start = null;
    this.stage.setPace("play");
    this.changed();
    requestAnimationFrame((now) => this.#tick(now));
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.stage.setPace("rest");
    this.changed();
  }

  /** Changes the speed to the next faster (1) or slower (-1). */
  shift(by) {
    const at = SPEEDS.indexOf(this.view.speed) + by;
    this.setSpeed(SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, at))]);
  }

  setSpeed(speed) {
    this.start = null;
    this.view.set({speed});
    this.changed();
  }

  jumpAnnotated(direction) {
    const frame = this.index.next(this.view.frame, direction, ANNOTATED);
    if (frame === null) this.say(`No annotated frame ${direction > 0 ? "after" : "before"} this one.`);
    else this.go(frame);
  }

  /** Goes to the followed frame with the greatest change or uncertainty; again, to the next in that order. */
  jumpGreatest(measure) {
    const frames = this.index.greatest(measure);
    if (!frames.length) return this.say(`No followed frame with a known ${measure} yet: follow first.`);
    const again = this.ranked?.measure === measure && this.ranked.frame === this.view.frame;
    const rank = again ? (this.ranked.rank + 1) % frames.length : 0;
    const frame = frames[rank];
    this.ranked = {measure, rank, frame};
    this.go(frame);
    const value = Math.round(100 * this.index[measure][frame]);
    this.say(`Frame ${frame}: ${measure} ${value} %, number ${rank + 1} of ${frames.length}.`);
  }

  /** Shows the frame being followed as it comes. */
  attach() {
    if (!this.state.now.following) return;
    this.pause();
    this.live = true;
    this.stage.setPace("live");
    const {frame} = this.state.now.following;
    if (this.state.frame(frame)?.map) this.#set(frame);
    this.changed();
  }

  /** The user looks or draws elsewhere. */
  release() {
    if (!this.live) return;
    this.live = false;
    this.stage.setPace("rest");
    this.changed();
  }

  #set(frame) {
    if (!Number.isFinite(frame)) return;
    this.view.set({frame: Math.min(this.state.last, Math.max(0, Math.round(frame)))});
  }

  /** Keeps with following: with the frames whose masks have come, which is a little behind the network. */
  #followed(changed) {
    const {following} = this.state.now;
    const before = this.following;
    this.following = following;
    if (following && !before) this.attach();
    if (this.live && Array.isArray(changed)) {
      const frames = changed.map(Number).filter((frame) => this.state.frame(frame)?.map);
      const {direction} = following ?? before;
      if (frames.length) this.#set(direction === "forward" ? Math.max(...frames) : Math.min(...frames));
    }
    if (!following) this.release();
  }

  #tick(now) {
    if (!this.playing) return;
    requestAnimationFrame((later) => this.#tick(later));
    const {frame, speed} = this.view;
    const {last} = this.state;
    this.start ??= {time: now, frame};
    const wait = 1000 / (this.state.now.video.rate * speed);
    const due = Math.min(last, this.start.frame + Math.floor((now - this.start.time) / wait));
    if (due <= frame) return;
    // Frames may be left out when drawing is too slow for the pace, but not because they have not come yet: then the
    // video waits, and goes on from there at its pace.
    let next = frame;
    while (next < due && this.stage.canShow(next + 1)) next++;
    if (next === frame) this.start = {time: now - wait, frame};
    else this.#set(next);
    if (next === last) this.pause();
  }
}
