// The one script: keys, views, the timer, drag and drop. Pages work without it, by mouse and Tab.
"use strict";
(() => {
  const one = (query, from = document) => from.querySelector(query);
  const all = (query, from = document) => [...from.querySelectorAll(query)];
  const work = () => one("#work");
  const inText = (target) => target.matches?.("textarea, select, input:not([type=radio], [type=checkbox])")
    && !target.closest("dialog:not([open])"); // a dialog that has just closed keeps the focus for a moment
  const say = window.accord.say;
  const tell = (text) => { one("#announcement").textContent = text; };

  // -- groups of radios: digits answer the active one and go on ---------------------------------
  const groups = () => all("[data-group]", work() ?? document);
  const active = () => one("[data-group][data-active]");
  const activate = (group) => groups().forEach((g) => g.toggleAttribute("data-active", g === group));
  const makeRoom = () => { // for what stays on the page's edges while it scrolls
    const tall = (query) => one(query)?.getBoundingClientRect().height ?? 0, edge = document.documentElement.style;
    edge.scrollPaddingBottom = `${tall(".actions.sticky") + 12}px`;
    edge.scrollPaddingTop = `${tall("#status") + 12}px`;
  };
  const inSight = (field) => { // all of what is looked at: the browser itself scrolls to a line or a point of it
    makeRoom();
    if (field?.matches("#work .choice input, #work textarea")) (field.closest(".choice") ?? field).scrollIntoView({ block: "nearest" });
  };
  const madeRoom = () => inSight(document.activeElement);
  const goTo = (group) => {
    activate(group);
    (one("input:checked", group) ?? one("input", group))?.focus({ preventScroll: true });
    makeRoom();
    group.scrollIntoView({ block: "nearest" });
    one(".choices", group)?.scrollIntoView({ block: "nearest" }); // of a long response what answers it
  };
  const stepFrom = (by) => {
    const every = groups(), at = every.indexOf(active());
    const next = every[Math.min(Math.max(at + by, 0), every.length - 1)];
    if (next) goTo(next);
  };
  const answered = (group) => one("input:checked", group) !== null;
  const choose = (key) => {
    const group = active(), input = group && one(`[data-key="${CSS.escape(key)}"] input`, group);
    if (!input) return false;
    const again = input.checked;
    input.checked = true;
    input.focus({ preventScroll: true });
    tell(`${input.getAttribute("aria-label") ?? input.parentElement.textContent.trim()}: chosen`);
    input.dispatchEvent(new Event("change", { bubbles: true }));
    makeRoom();
    one(".choices", group).scrollIntoView({ block: "nearest" });
    inSight(input);
    if (groups().length > 1) stepFrom(1);
    else if (again) submit();
    return true;
  };
  const submit = () => {
    const open = groups().find((g) => !answered(g));
    if (open) { goTo(open); say(groups().length > 1 ? "Something is not answered yet." : "Choose an answer first."); return; }
    one("#answer")?.requestSubmit(one("#answer .actions .primary"));
  };

  // -- views --------------------------------------------------------------------------------------
  const press = (name, on) => one(`[data-do="${name}"]`)?.setAttribute("aria-pressed", String(on));
  const view = (name) => {
    const next = work().dataset.view === name ? "markdown" : name;
    work().dataset.view = next;
    press("raw", next === "raw"); press("diff", next === "diff");
    sessionStorage.setItem("view", next);
  };
  const theme = () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    document.cookie = `theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=lax${location.protocol === "https:" ? "; secure" : ""}`;
  };
  const guidelines = () => {
    const aside = one("#guidelines");
    aside.hidden = !aside.hidden;
    one('[data-do="guidelines"]').setAttribute("aria-expanded", String(!aside.hidden));
    localStorage.setItem("guidelines", aside.hidden ? "" : "open");
  };
  const answers = () => groups().some(answered) || all("textarea", one("#answer")).some((e) => e.value !== "");
  const ask = (action, title) => {
    const dialog = one("#reason"), form = one("[data-reason-form]");
    form.setAttribute("action", `${form.dataset.root}/${action}`);
    one("#reason-title").textContent = title;
    one("[data-reason-submit]").textContent = title.split(" ")[0];
    one(".reasons", dialog).hidden = action !== "skip";
    one("[data-leaves]", form).hidden = action !== "skip" || !answers();
    htmx.process(form);
    dialog.showModal();
    one("[name=reason]", form).focus();
  };
  let together = true;
  const does = {
    theme, guidelines,
    raw: () => view("raw"), diff: () => view("diff"),
    sync: () => { together = !together; press("sync", together); },
    help: () => one("#help").showModal(),
    skip: () => ask("skip", "Skip this question"), flag: () => ask("flag", "Flag for a reviewer"),
    close: (button) => button?.closest("dialog")?.close(),
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-do]");
    if (button) does[button.dataset.do]?.(button);
    const reason = event.target.closest("[data-reason]");
    if (reason) { one("#reason [name=reason]").value = reason.dataset.reason; one("[data-reason-submit]").click(); }
    const group = event.target.closest("[data-group]");
    if (group) activate(group);
  });
  document.addEventListener("focusin", (event) => {
    const group = event.target.closest?.("[data-group]");
    if (group) activate(group);
    if (event.target.matches(":focus-visible")) inSight(event.target);
  });
  let syncing = false;
  document.addEventListener("scroll", (event) => {
    const from = event.target;
    if (!together || syncing || !(from instanceof Element) || !from.matches("[data-scroll]")) return;
    syncing = true;
    const share = from.scrollTop / Math.max(1, from.scrollHeight - from.clientHeight);
    all("[data-scroll]").forEach((other) => { if (other !== from) other.scrollTop = share * (other.scrollHeight - other.clientHeight); });
    requestAnimationFrame(() => { syncing = false; });
  }, true);

  // -- keys ---------------------------------------------------------------------------------------
  const MOVES = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 };
  document.addEventListener("keydown", (event) => {
    const { key, target } = event;
    // a key held down answers once: its repeats move, write and scroll, and send nothing
    const writes = target.matches?.("textarea") && !event.ctrlKey && !event.metaKey;
    if (event.repeat && key === "Enter" && !writes) { event.preventDefault(); return; }
    if (event.repeat && !inText(target) && !(key in MOVES)) return;
    const dialog = one("dialog[open]");
    if (dialog) {
      if (key === "?" && dialog.id === "help") { dialog.close(); event.preventDefault(); }
      const reason = all("[data-reason]", dialog)[Number(key) - 1];
      if (reason && !reason.parentElement.hidden && one("[name=reason]", dialog).value === "") { reason.click(); event.preventDefault(); }
      return;
    }
    if (key === "Enter" && (event.ctrlKey || event.metaKey)) {
      const form = target.form;
      if (form && form.id !== "answer") form.requestSubmit();
      else if (work()) submit();
      event.preventDefault();
      return;
    }
    if (key === "Escape" && inText(target)) { target.blur(); return; }
    if (inText(target) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (key === "t") { theme(); return; }
    if (!work()) return;
    if (key === "Enter") { if (!target.matches("button, a, summary")) { submit(); event.preventDefault(); } return; }
    if (event.shiftKey && /^[A-I]$/.test(key)) {
      const group = one(`[data-letter="${key.toLowerCase()}"]`);
      if (group) { goTo(group); event.preventDefault(); return; }
    }
    const scrolls = key.startsWith("Arrow") && target.matches("[tabindex='0']");
    if (key in MOVES && groups().length > 1 && !scrolls) { stepFrom(MOVES[key]); event.preventDefault(); return; }
    if (/^[0-9]$/.test(key) && choose(key)) { event.preventDefault(); return; }
    if (key === "e" && one("[data-main]")) { one("[data-main]").focus(); event.preventDefault(); return; }
    if (key === "w" && one(".why")) { one(".why").open = true; one(".why textarea").focus(); event.preventDefault(); return; }
    if (key.length === 1) { const button = one(`button[data-key="${CSS.escape(key)}"]`); if (button) { button.click(); event.preventDefault(); } }
  });

  // -- ranking by drag ----------------------------------------------------------------------------
  let dragged = null;
  document.addEventListener("dragstart", (event) => { dragged = event.target.closest?.(".rank"); dragged?.classList.add("dragging"); });
  document.addEventListener("dragover", (event) => {
    const over = event.target.closest?.(".rank");
    all(".rank.over").forEach((r) => r.classList.remove("over"));
    if (dragged && over && over !== dragged) { over.classList.add("over"); event.preventDefault(); }
  });
  document.addEventListener("drop", (event) => {
    const over = event.target.closest?.(".rank");
    if (!dragged || !over || over === dragged) return;
    event.preventDefault();
    const before = groups().indexOf(dragged) > groups().indexOf(over);
    over.parentElement.insertBefore(dragged, before ? over : over.nextSibling);
    groups().forEach((group, place) => { one(`[data-key="${place + 1}"] input`, group).checked = true; });
    dragged.dispatchEvent(new Event("change", { bubbles: true }));
  });
  document.addEventListener("dragend", () => { all(".dragging, .over").forEach((r) => r.classList.remove("dragging", "over")); dragged = null; });

  // -- the timer: seconds of attention only -------------------------------------------------------
  const AWAY = 60_000;
  let seconds = 0, last = performance.now(), sinceRenewal = 0;
  for (const kind of ["keydown", "pointerdown", "pointermove", "wheel", "touchstart", "scroll"])
    document.addEventListener(kind, () => { last = performance.now(); }, { capture: true, passive: true });
  setInterval(() => {
    const field = one("[data-seconds]");
    if (!field) return;
    const away = document.hidden || performance.now() - last > AWAY;
    one("[data-paused]").hidden = !away;
    if (away) return;
    seconds += 1; sinceRenewal += 1;
    field.value = seconds;
    one("[data-timer]").textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    if (sinceRenewal >= Number(work().dataset.renew)) { sinceRenewal = 0; htmx.trigger(document.body, "keepalive"); }
  }, 1000);

  // -- every new page -----------------------------------------------------------------------------
  const start = () => {
    madeRoom();
    if (!work()) return;
    seconds = Number(one("[data-seconds]")?.value) || 0; sinceRenewal = 0; last = performance.now();
    activate(groups().find((g) => !answered(g)) ?? groups()[0]);
    if (localStorage.getItem("guidelines") && one("#guidelines")?.hidden) guidelines();
    const kept = sessionStorage.getItem("view");
    if (kept === "raw" || (kept === "diff" && one('[data-do="diff"]'))) view(kept);
  };
  document.addEventListener("DOMContentLoaded", start);
  document.addEventListener("htmx:afterSwap", ({ detail }) => {
    if (detail.target !== document.body) return;
    const at = new URL(detail.xhr.responseURL || location.href);
    at.searchParams.delete("notice"); // told once
    if (detail.xhr.status < 400) history.replaceState(null, "", at.pathname + at.search);
    start();
    if (one("#end") && one(".chat .mine")) one("#end").scrollIntoView({ block: "end" }); else window.scrollTo(0, 0);
    one("#main")?.focus({ preventScroll: true });
  });
  document.addEventListener("accord:unsaved", () => { sinceRenewal = Number(work()?.dataset.renew) - 10; }); // again in 10 s
  document.addEventListener("accord:notice", madeRoom);
  window.addEventListener("resize", madeRoom);
})();
