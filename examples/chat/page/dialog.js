// One dialog that asks for a line of text.

import { byId, setText } from "./dom.js";

/**
 * Asks until `accept` takes the answer; what it throws is shown. Resolves to what `accept` returned, or to undefined when
 * the person cancelled, which `must` does not allow.
 */
export function ask({ title, note, label, ok, value = "", must = false, accept }) {
  const dialog = byId("ask");
  const input = byId("ask-text");
  const button = byId("ask-ok");
  setText(byId("ask-title"), title);
  setText(byId("ask-note"), note);
  setText(byId("ask-label"), label);
  setText(button, ok);
  setText(byId("ask-error"), "");
  byId("ask-cancel").hidden = must;
  input.value = value;

  return new Promise((resolve) => {
    const finish = (result) => {
      listening.abort();
      dialog.close();
      resolve(result);
    };
    const listening = new AbortController();
    const on = (target, event, handler) => target.addEventListener(event, handler, { signal: listening.signal });
    on(byId("ask-form"), "submit", async (event) => {
      event.preventDefault();
      button.disabled = true;
      try {
        finish(await accept(input.value.trim()));
      } catch (error) {
        setText(byId("ask-error"), error.message);
      } finally {
        button.disabled = false;
        input.focus();
      }
    });
    on(byId("ask-cancel"), "click", () => finish(undefined));
    on(dialog, "cancel", (event) => {
      event.preventDefault();
      if (!must) finish(undefined);
    });
    dialog.showModal();
    input.select();
  });
}
