// The page is complete without this script, which only keeps it up to date: it fetches
// the page again and replaces the parts that have changed, so that focus, scroll
// position, open details and text being typed are kept.
"use strict";
(() => {
  const interval = 10000; // milliseconds
  const live = document.getElementById("live");
  const pause = document.getElementById("pause");
  const form = document.getElementById("filter");
  let paused = false;
  let timer = 0;
  let request = null;

  const report = (text) => {
    if (live.textContent !== text) live.textContent = text;
    live.classList.toggle("bad", text !== "");
  };

  // focusSelector selects the focused element, also in the part that replaces this one.
  const focusSelector = (part) => {
    const e = document.activeElement;
    return e && part.contains(e) && (e.id ? "#" + CSS.escape(e.id) :
      e.getAttribute("href") ? 'a[href="' + CSS.escape(e.getAttribute("href")) + '"]' : null);
  };

  const replace = (old, fresh) => {
    const focused = focusSelector(old);
    const open = [...old.querySelectorAll("details[open]")].map((e) => e.id);
    const box = old.querySelector(".scroll");
    const left = box ? box.scrollLeft : 0;
    for (const id of open) {
      const e = id && fresh.querySelector("#" + CSS.escape(id));
      if (e) e.open = true;
    }
    const next = document.importNode(fresh, true);
    old.replaceWith(next);
    const newBox = next.querySelector(".scroll");
    if (newBox) newBox.scrollLeft = left;
    const target = focused && next.querySelector(focused);
    if (target) target.focus({ preventScroll: true });
  };

  const selecting = () => {
    const s = document.getSelection();
    return s && !s.isCollapsed;
  };

  const refresh = async (address) => {
    clearTimeout(timer);
    if (request) request.abort();
    const current = request = new AbortController();
    const timeout = setTimeout(() => current.abort(), interval);
    try {
      const response = await fetch(address, { signal: current.signal, cache: "no-store" });
      if (!response.ok) throw new Error("status " + response.status);
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      if (request !== current) return;
      if (!page.querySelector("[data-part]")) throw new Error("not the status page");
      for (const fresh of page.querySelectorAll("[data-part]")) {
        const old = document.getElementById(fresh.id);
        if (old && !old.isEqualNode(fresh)) replace(old, fresh);
      }
      document.title = page.title;
      report("");
    } catch (e) {
      if (request !== current) return;
      report("The exporter is not responding. Showing data");
    } finally {
      clearTimeout(timeout);
      if (request === current) {
        request = null;
        schedule();
      }
    }
  };

  const schedule = () => {
    clearTimeout(timer);
    if (!paused && !document.hidden) timer = setTimeout(tick, interval);
  };
  const tick = () => {
    // Replacing selected text would undo the selection.
    if (selecting()) schedule();
    else refresh(location.pathname + location.search);
  };

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else if (!paused) tick();
  });

  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Resume" : "Pause";
    document.documentElement.classList.toggle("paused", paused);
    if (paused) clearTimeout(timer);
    else tick();
  });

  // The filter applies as it is typed.
  let settled = 0;
  const apply = () => {
    const query = new URLSearchParams();
    for (const [key, value] of new FormData(form)) if (value !== "") query.set(key, value);
    const address = location.pathname + "?" + query;
    history.replaceState(null, "", address);
    refresh(address);
  };
  if (form) { // there is none where one service is shown
    form.addEventListener("input", () => {
      clearTimeout(settled);
      settled = setTimeout(apply, 200);
    });
    form.addEventListener("submit", (e) => {
      e.preventDefault();
      clearTimeout(settled);
      apply();
    });
  }

  schedule();
})();
