// Starts the page: connects, waits for the first state, makes the parts and ties them together.

import {Acts} from "./acts.js";
import {Camera} from "./camera.js";
import {CommandButtons, allCommands} from "./commands.js";
import {Connection} from "./connection.js";
import {Controls, drawToolBar} from "./controls.js";
import {Drafts} from "./drafts.js";
import {Edits} from "./edits.js";
import {ExportPanel} from "./exports.js";
import {Following} from "./following.js";
import {FrameIndex} from "./frame_index.js";
import {FramePanel} from "./frame_panel.js";
import {Keys, helpSheet, keyText} from "./keys.js";
import {MemoryPanel} from "./memory.js";
import {Notices} from "./notices.js";
import {ObjectList} from "./objects.js";
import {Pictures} from "./pictures.js";
import {Player} from "./player.js";
import {Pointers} from "./pointers.js";
import {Stage} from "./canvas.js";
import {State} from "./state.js";
import {Tabs} from "./tabs.js";
import {Timeline} from "./timeline.js";
import {Tools} from "./tools.js";
import {View} from "./view.js";
import {renewAddresses} from "./addresses.js";
import {find, setText} from "./dom.js";
import {mapLoader} from "./maps.js";

const app = {};
const state = new State();
const notices = new Notices();
const notice = (level, text) => notices.show(level, text);
const connection = new Connection({state, notice, banner: (text) => notices.setBanner(text), back});
const acts = new Acts({notice, busy, alive: () => connection.alive});
Object.assign(app, {state, notices, acts});

state.on(["version"], () => {
  document.body.dataset.version = state.now.version;
  if (!app.view) start();
});

function start() {
  const {video} = state.now;
  const view = new View(state.now.view, (values, leaving) => acts.saveView(values, leaving));
  view.frame = Math.min(view.frame, state.last);
  if (state.now.view.radius === undefined) {
    view.radius = Math.max(2, Math.round(Math.max(video.width, video.height) / 50));
  }
  if (!state.object(view.label)) view.label = state.now.objects[0]?.label ?? null;
  app.view = view;

  app.pictures = new Pictures(video, (frame) => app.stage.pictureArrived(frame));
  app.maps = mapLoader((address) => {
    const failure = app.maps.failure(address);
    if (failure) notice("warning", `A mask could not be read: ${failure}`);
    app.stage.refresh();
  });
  app.drafts = new Drafts(state, () => app.stage?.soil());
  app.index = new FrameIndex(state);
  app.camera = new Camera(view, video, () => {
    app.stage?.soil();
    app.controls?.drawZoom();
  });
  app.stage = new Stage({
    ...app,
    element: find("#stage"),
    overlay: (pen) => app.tools.draw(pen),
  });
  app.player = new Player({...app, say: (text) => notices.say(text), changed: playingChanged});
  const settled = () => app.stage.settled;
  app.tools = new Tools({...app, notice, settled, redraw: () => app.stage.soilTop()});
  app.interrupt = () => {
    // Whoever begins to draw wants the frame to stay.
    app.player.pause();
    app.player.release();
  };
  app.edits = new Edits(app);
  app.following = new Following(app);
  app.timeline = new Timeline(app);
  app.resizeBrush = (by) => app.controls.resizeBrush(by);

  drawToolBar();
  app.help = () => toggleHelp();
  const commands = allCommands(app);
  const toggleHelp = helpSheet(commands);
  app.buttons = new CommandButtons(commands, app, keyText);
  app.controls = new Controls(app);
  const keys = new Keys(commands, app);
  new Pointers({
    ...app,
    canvas: find("#canvas"),
    busy: app.interrupt,
    spaceHeld: () => keys.space.held,
    dragged: () => (keys.space.used = true),
  });
  new Tabs(app);
  new ObjectList(app);
  new FramePanel(app);
  new MemoryPanel(app);
  new ExportPanel(app);
  app.following.draw();
  app.controls.drawZoom();
  if (video.warning) notice("warning", video.warning);
  app.stage.refresh();
}

function playingChanged() {
  app.controls?.drawPlaying();
  app.following?.draw();
}

function busy(count) {
  setText(find("#saving"), count ? "Saving…" : "Saved");
}

/** After a lost connection: what the server has is what counts, and what changed meanwhile is said. */
function back(now, before) {
  renewAddresses();
  app.stage.restart();
  app.timeline.soil();
  if (now.video.path !== before.video.path || now.video.count !== before.video.count) {
    // Every part was made for the other video.
    location.reload();
    return;
  }
  const same = now.version === before.version;
  const words = same
    ? "Connected again. Nothing has changed meanwhile."
    : `Connected again. What you see is what is saved: ${saved(now.history)}.`;
  notice("info", before.following && !now.following ? `${words} Following was stopped; start it again.` : words);
}

const saved = ({undo}) => (undo ? `the last change is “${undo}”` : "no changes");
