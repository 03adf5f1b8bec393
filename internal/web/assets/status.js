// The page is complete without this script, which only keeps it fresh: it
// fetches the page anew and replaces the parts that have changed, so that
// focus, scrolling, open details and what is being typed stay.
"use strict";
(() => {
  const every = 10000;
  const live = document.getElementById("live");
  const pause = document.getElementById("pause");
  const form = document.getElementById("filter");
  let paused = false;
  let timer = 0;
  let request = null;

  const say = (text) => {
    if (live.textContent !== text) live.textContent = text;
    live.classList.toggle("bad", text !== "");
  };

  // where names the focused element in a way that its successor answers to.
  const where = (part) => {
    const e = document.activeElement;
    return e && part.contains(e) && (e.id ? "#" + CSS.escape(e.id) :
      e.getAttribute("href") ? 'a[href="' + CSS.escape(e.getAttribute("href")) + '"]' : null);
  };

  const replace = (old, fresh) => {
    const focused = where(old);
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
    const mine = request = new AbortController();
    const patience = setTimeout(() => mine.abort(), every);
    try {
      const answer = await fetch(address, { signal: mine.signal, cache: "no-store" });
      if (!answer.ok) throw new Error("status " + answer.status);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (request !== mine) return;
      if (!page.querySelector("[data-part]")) throw new Error("another page");
      for (const fresh of page.querySelectorAll("[data-part]")) {
        const old = document.getElementById(fresh.id);
        if (old && !old.isEqualNode(fresh)) replace(old, fresh);
      }
      document.title = page.title;
      say("");
    } catch (e) {
      if (request !== mine) return;
      say("The exporter does not answer. What it said");
    } finally {
      clearTimeout(patience);
      if (request === mine) {
        request = null;
        schedule();
      }
    }
  };

  const schedule = () => {
    clearTimeout(timer);
    if (!paused && !document.hidden) timer = setTimeout(tick, every);
  };
  const tick = () => {
    // Replacing what is being selected would undo the selection.
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

  // The filter takes effect while it is being set.
  let settled = 0;
  const apply = () => {
    const query = new URLSearchParams();
    for (const [key, value] of new FormData(form)) if (value !== "") query.set(key, value);
    const address = location.pathname + "?" + query;
    history.replaceState(null, "", address);
    refresh(address);
  };
  form.addEventListener("input", () => {
    clearTimeout(settled);
    settled = setTimeout(apply, 200);
  });
  form.addEventListener("submit", (e) => {
    e.preventDefault();
    clearTimeout(settled);
    apply();
  });

  schedule();
})();
