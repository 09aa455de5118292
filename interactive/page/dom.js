// Small helpers for making and finding elements.

import {ICONS} from "./icons.js";

export const find = (selector, within = document) => within.querySelector(selector);
export const findAll = (selector, within = document) => [...within.querySelectorAll(selector)];

/** Makes an element. Properties with a dash and `role` are set as attributes, `data` as data attributes. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "data") Object.assign(element.dataset, value);
    else if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** One of the program's icons: lines on a grid of 24, in the colour of the text. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const image = document.createElementNS(space, "svg");
  image.setAttribute("viewBox", "0 0 24 24");
  image.setAttribute("class", "icon");
  image.setAttribute("aria-hidden", "true");
  for (const line of ICONS[name].split("|")) {
    const path = document.createElementNS(space, "path");
    path.setAttribute("d", line.replace(/^\*/, ""));
    if (line.startsWith("*")) path.setAttribute("class", "solid");
    image.append(path);
  }
  return image;
}

/** A button with an icon. What it does is its accessible name and its tooltip. */
export function iconButton(name, text, click, properties = {}) {
  const button = make("button", {type: "button", className: "icon-button", onclick: click, ...properties}, icon(name));
  rename(button, text);
  return button;
}

/** Gives a button without words its accessible name and its tooltip. */
export function rename(button, text, key = "") {
  button.setAttribute("aria-label", text);
  button.title = key ? `${text} (${key})` : text;
}

export function onEnter(input, run) {
  input.addEventListener("keydown", (event) => event.key === "Enter" && run());
}

/** Sets text only if it differs, so that live regions are not read again. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets an input's value unless the user is writing in it. */
export function setValue(input, value) {
  if (document.activeElement === input && input.type !== "range" && input.tagName !== "SELECT") return;
  if (input.value !== String(value)) input.value = value;
}

/**
 * Makes the children of a list those of `items`: keeps the elements of keys that stay, so that focus and half-written
 * names survive. `create(item)` makes an element, `update(element, item)` fills it.
 */
export function reconcile(list, items, keyOf, create, update) {
  const old = new Map([...list.children].map((element) => [element.dataset.key, element]));
  let place = list.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let element = old.get(key);
    old.delete(key);
    if (!element) {
      element = create(item);
      element.dataset.key = key;
    }
    if (element === place) place = place.nextElementSibling;
    else list.insertBefore(element, place);
    update(element, item);
  }
  for (const element of old.values()) element.remove();
}

/** A number of bytes in words. */
export function inBytes(bytes) {
  if (bytes === null || bytes === undefined) return "unknown";
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  const step = bytes < 1000 ? 0 : Math.min(4, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** step;
  return `${step && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[step]}`;
}

/** Seconds in words. */
export function inTime(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}
