// What a person typed or chose and the server does not have yet is kept in this browser under the account's
// name, put back where it was written, and shown wherever else they go; and what is said when sending fails.
"use strict";
(() => {
  const one = (query, from = document) => from.querySelector(query);
  const all = (query, from = document) => [...from.querySelectorAll(query)];
  const PREFIX = "accord not sent ", DAYS = 30;
  const account = one('meta[name="account"]')?.content ?? "";
  const tab = Math.random().toString(36).slice(2);

  // -- telling ------------------------------------------------------------------------------------
  const element = (tag, text, more = {}) => Object.assign(document.createElement(tag), { textContent: text }, more);
  const note = (text, ...more) => { const p = element("p", text, { className: "notice" }); more.forEach((m) => p.append(" ", m)); return p; };
  const link = (text, href) => element("a", text, { href });
  const button = (text, does) => { const b = element("button", text, { type: "button" }); b.addEventListener("click", does); return b; };
  const say = (text, ...more) => {
    const place = one("dialog[open] [data-say]") ?? one("#status");
    place.replaceChildren(...(text ? [note(text, ...more)] : []));
    document.dispatchEvent(new Event("accord:notice"));
  };
  window.accord = { say };

  // -- keeping ------------------------------------------------------------------------------------
  const UNKEPT = ["hidden", "password", "submit", "button"];
  const boxes = (form) => [...form.elements].filter((e) => e.name && !UNKEPT.includes(e.type));
  const toggles = (e) => e.type === "radio" || e.type === "checkbox";
  const fields = (form) => Object.fromEntries(boxes(form).filter((e) => !toggles(e) || e.checked).map((e) => [e.name, e.value]));
  const inWords = (values) => JSON.stringify(Object.entries(values).sort());
  const state = (form) => inWords(fields(form));
  const had = new WeakMap(); // what the server has of a form
  const keyOf = (form) => `${PREFIX}${JSON.stringify([account, form.dataset.keep, tab])}`;
  const replaced = (form) => `${PREFIX}${JSON.stringify([account, form.dataset.keep, "replaced"])}`; // by what was not sent
  const drop = (form) => localStorage.removeItem(keyOf(form));
  const store = (key, entry) => {
    try { localStorage.setItem(key, JSON.stringify(entry)); } catch { // full, or switched off
      say("This browser has no room to keep what you write: it is only on this page until it is sent.");
    }
  };
  const dropAll = (form) => { // also what another page kept of the same
    had.set(form, state(form)); // leaving the page may fire a last "change"
    drop(form);
    for (const e of unsent()) if (e.account === account && e.path === form.dataset.keep && inWords(e.fields) === state(form)) localStorage.removeItem(e.key);
  };
  const back = (form) => form?.dataset.back ?? location.pathname;
  const keep = (form) => {
    if (state(form) === had.get(form)) { drop(form); return; }
    const { keep: path, named } = form.dataset;
    store(keyOf(form), { account, path, named, back: back(form), at: Date.now(), fields: fields(form) });
  };
  const unsent = () => Object.keys(localStorage).filter((key) => key.startsWith(PREFIX))
    .map((key) => ({ key, ...JSON.parse(localStorage.getItem(key)) })).sort((a, b) => b.at - a.at);
  for (const kind of ["input", "change"])
    document.addEventListener(kind, ({ target }) => {
      const form = target.form ?? target.closest?.("form");
      if (form?.dataset.keep && had.has(form)) keep(form);
    });

  // -- putting back -------------------------------------------------------------------------------
  const put = (form, values) => {
    const left = { ...values };
    for (const e of boxes(form)) {
      const value = values[e.name], before = toggles(e) ? e.checked : e.value;
      if (e.type === "checkbox") e.checked = value === e.value;
      else if (e.type === "radio") e.checked = value === undefined ? e.checked : value === e.value;
      else if (value !== undefined) e.value = value;
      if (e.value === value) delete left[e.name];
      if (value && before !== (toggles(e) ? e.checked : e.value)) e.closest("details")?.setAttribute("open", "");
    }
    return Object.fromEntries(Object.entries(left).filter(([, value]) => value));
  };
  const touched = (form) => (one("textarea", form) ?? form).dispatchEvent(new Event("input", { bubbles: true }));
  const putBack = (form, refused) => { // whether anything is as the server doesn't have it
    const there = state(form), before = fields(form), kept = unsent().find((e) => e.account === account && e.path === form.dataset.keep);
    had.set(form, there);
    if (!kept) return false;
    const left = put(form, kept.fields), changed = state(form) !== there;
    if (refused) had.set(form, "");
    else if (form.hasAttribute("data-drafted") && boxes(form).some((e) => !toggles(e) && !e.value.includes(before[e.name])))
      store(replaced(form), { account, path: "", named: `${form.dataset.named}, as the server had it`, back: back(form), at: Date.now(), fields: before });
    localStorage.removeItem(kept.key);
    if (Object.keys(left).length) store(kept.key, { ...kept, path: "", fields: left });
    keep(form);
    if (changed && !form.hasAttribute("data-drafted")) touched(form); // else both stay until somebody chooses
    return changed && !refused;
  };
  const shown = (entry) => {
    const place = element("details", "", { className: "notice" });
    const time = new Date(entry.at).toLocaleString([], { dateStyle: "short", timeStyle: "short" });
    const words = Object.entries(entry.fields).map(([name, value]) => `${name}: ${value}`).join("\n");
    place.append(element("summary", `Not sent yet: ${entry.named}, ${time}`), element("pre", words, { className: "text" }),
      link("Go back to it", entry.back), " ", button("Discard", () => { localStorage.removeItem(entry.key); place.remove(); }));
    return place;
  };
  const start = (refused) => {
    const status = one("#status"), forms = all("form[data-keep]"), paths = forms.map((form) => form.dataset.keep);
    unsent().filter((e) => Date.now() - e.at > DAYS * 86_400_000).forEach((e) => localStorage.removeItem(e.key));
    for (const form of forms)
      if (putBack(form, refused))
        status.append(note(`What you had not sent is back: ${form.dataset.named}.`, button("Take what the server has instead", (event) => {
          form.reset(); localStorage.removeItem(replaced(form)); keep(form); touched(form); event.target.closest(".notice").remove();
        })));
    const rest = unsent().filter((e) => !paths.includes(e.path));
    if (account) status.append(...rest.filter((e) => e.account === account).map(shown));
    else for (const name of new Set(rest.map((e) => e.account)))
      status.append(note(`What ${name} wrote in this browser and has not sent is kept, and comes back when ${name} signs in.`));
    document.dispatchEvent(new Event("accord:notice"));
  };
  document.addEventListener("DOMContentLoaded", () => start(false));
  document.addEventListener("htmx:afterSwap", ({ detail }) => { if (detail.target === document.body) start(detail.xhr.status >= 400); });
  document.addEventListener("click", ({ target }) => { if (target.closest("[data-drop]")) drop(one("#answer")); });

  // -- sending ------------------------------------------------------------------------------------
  let sent = "", faulty = false;
  const sending = new WeakMap(); // what a form held when it was sent: what is typed on after that is not in it
  const arrived = (form) => { if (state(form) === sending.get(form)) dropAll(form); };
  const label = (text) => { const place = one("[data-saved]"); if (place) place.textContent = text; };
  const saves = (elt) => elt.matches("[data-autosave]");
  document.addEventListener("htmx:beforeRequest", ({ detail: { requestConfig: { elt } } }) => {
    if (elt.matches("form[data-keep]")) all("form[data-keep]").forEach((form) => sending.set(form, state(form)));
    if (saves(elt)) sent = state(elt.closest("form"));
    else if (elt.matches("form[data-keep]")) label("Sending…");
  });
  document.addEventListener("htmx:beforeSwap", ({ detail }) => {
    const { xhr, requestConfig } = detail, { elt, path } = requestConfig, page = xhr.getResponseHeader("content-type")?.startsWith("text/html");
    if (xhr.status >= 400) { if (!page) { detail.shouldSwap = false; detail.isError = true; } return; }
    if (elt.matches("form[data-keep]") && elt.getAttribute("action") === path) arrived(elt);
    if (path.endsWith("/skip") && one("#answer")) arrived(one("#answer"));
  });
  document.addEventListener("htmx:afterRequest", ({ detail: { requestConfig: { elt }, xhr } }) => {
    if (!saves(elt) || !elt.isConnected || xhr.status !== 200) return;
    const form = elt.closest("form");
    if (xhr.responseText && state(form) === sent) { had.set(form, sent); drop(form); }
    label(xhr.responseText);
    if (faulty) say("");
    faulty = false;
  });
  const failed = (why) => ({ detail: { requestConfig: { elt }, xhr } }) => {
    if (!elt.isConnected) return;
    const plain = xhr?.getResponseHeader("content-type")?.startsWith("text/plain");
    const words = why ?? (plain || xhr.responseText.length < 200 ? xhr.responseText : "The server could not do that.");
    const form = elt.closest("form[data-keep]") ?? one("form[data-keep]");
    faulty = saves(elt);
    label(faulty ? "Not saved" : "Not sent");
    if (xhr?.status === 401)
      say(`${words} Nothing is lost: what you wrote is kept in this browser, and comes back when you have signed in.`,
        link("Sign in", `/sign-in?then=${encodeURIComponent(back(form))}`));
    else if (xhr?.status === 403)
      say(`${words} Nothing is lost: what you wrote is kept in this browser, and comes back.`, link("Reload", back(form)));
    else say(`${words} Nothing is lost: what you wrote stays here, and in this browser.`);
    if (faulty) document.dispatchEvent(new Event("accord:unsaved"));
  };
  document.addEventListener("htmx:responseError", failed());
  document.addEventListener("htmx:sendError", failed("The server can't be reached."));
  document.addEventListener("htmx:timeout", failed("The server has not answered in time."));
})();
