// The lists of outputs and messages.

import { $, make } from "./elements.js";

const LIST_LIMIT = 200; // entries
const TEXT_LIMIT = 4000; // characters of one entry

/** The newest entries, oldest first. Stays at its end while the reader has not scrolled up. */
class EntryList {
  constructor(element, { fold = false } = {}) {
    Object.assign(this, { element, fold, last: {}, pinned: true, scrolling: false });
    const scroller = element.parentElement;
    scroller.addEventListener("scroll", () => {
      this.pinned = scroller.scrollTop + scroller.clientHeight > scroller.scrollHeight - 24;
    }, { passive: true });
  }

  /** `fold`: an entry equal to the one before it raises that one's count. */
  add(kind, text) {
    if (this.fold && this.last.kind === kind && this.last.text === text) {
      this.last.count.textContent = ` ×${++this.last.times}`;
      return;
    }
    const count = make("span", { className: "count" });
    const shown = text.length > TEXT_LIMIT ? `${text.slice(0, TEXT_LIMIT)}…` : text;
    const body = make("span", { className: "body" }, make("span", { className: "kind", textContent: kind }), shown, count);
    const item = make("li", {}, make("time", { textContent: new Date().toTimeString().slice(0, 8) }), body);
    item.dataset.kind = kind;
    this.element.append(item);
    while (this.element.childElementCount > LIST_LIMIT) this.element.firstElementChild.remove();
    this.last = { kind, text, count, times: 1 };
    this.#follow();
  }

  clear() {
    this.element.replaceChildren();
    this.last = {};
  }

  #follow() {
    if (!this.pinned || this.scrolling) return;
    this.scrolling = true;
    requestAnimationFrame(() => {
      this.scrolling = false;
      this.element.parentElement.scrollTop = this.element.parentElement.scrollHeight;
    });
  }
}

export const outputs = new EntryList($("outputs"));
export const messages = new EntryList($("messages"), { fold: true });
