// One player for the whole page: every panel shows the same frame at the same time.
(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("js");

  // Headings become buttons that sort their table; a second press turns the order around.
  function sortable(table) {
    const body = table.tBodies[0];
    const headings = [...table.tHead.rows[0].cells];
    const order = new Intl.Collator(undefined, { numeric: true });
    headings.forEach((heading, column) => {
      const kind = heading.dataset.sort;
      if (!kind) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const up = heading.getAttribute("aria-sort") !== "ascending";
        for (const other of headings) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", up ? "ascending" : "descending");
        const value = (row) => {
          const cell = row.cells[column];
          const number = cell.querySelector("data");
          return kind === "number" ? (number ? Number(number.value) : -Infinity) : cell.textContent.trim();
        };
        const compared = (one, other) => (kind === "number" ? value(one) - value(other) : order.compare(value(one), value(other)));
        body.append(...[...body.rows].sort((one, other) => (up ? 1 : -1) * compared(one, other)));
      });
    });
  }

  addEventListener("DOMContentLoaded", () => {
    for (const strip of document.querySelectorAll("details.strip:not(.few)")) strip.open = false;
    for (const table of document.querySelectorAll("table[data-sortable]")) sortable(table);

    const player = document.getElementById("player");
    if (!player) return;
    const play = document.getElementById("play");
    const slider = document.getElementById("frame");
    const number = document.getElementById("frame-number");
    const speed = document.getElementById("speed");
    const opacity = document.getElementById("opacity");
    const frames = Number(player.dataset.frames);
    const times = player.dataset.times?.split(" ").map(Number);
    const sprites = [...document.querySelectorAll(".sprite[data-frames]")].map((element) => ({
      element,
      frames: Number(element.dataset.frames),
      columns: Number(element.dataset.columns),
      loops: Number(element.dataset.loops || 1),
    }));
    const still = matchMedia("(prefers-reduced-motion: reduce)");
    let frame = 0;
    let playing = false;
    let last = 0;

    const share = (index, count) => (count > 1 ? (100 * index) / (count - 1) : 0);

    function show(next) {
      frame = ((next % frames) + frames) % frames;
      for (const sprite of sprites) {
        // A clip that another model sees in fewer frames goes along with the longest; a filter plays several times.
        const own = Math.floor((frame * sprite.frames * sprite.loops) / frames) % sprite.frames;
        const column = own % sprite.columns;
        const row = Math.floor(own / sprite.columns);
        const rows = Math.ceil(sprite.frames / sprite.columns);
        sprite.element.style.backgroundPosition = `${share(column, sprite.columns)}% ${share(row, rows)}%`;
      }
      root.style.setProperty("--at", `${(100 * (frame + 0.5)) / frames}%`);
      slider.value = String(frame);
      const when = times ? `${times[frame].toFixed(2)} s, ` : "";
      slider.setAttribute("aria-valuetext", `${when}frame ${frame} of 0 to ${frames - 1}`);
      number.textContent = `${when}frame ${frame} / ${frames - 1}`;
    }

    function tick(now) {
      if (!playing) return;
      const length = 1000 / Number(speed.value);
      if (now - last >= length) {
        // After a pause of the tab only one step is made, not all that were missed.
        last = now - last > 4 * length ? now : last + length;
        show(frame + 1);
      }
      requestAnimationFrame(tick);
    }

    function run(on) {
      if (playing === on) return;
      playing = on;
      root.classList.toggle("playing", on);
      play.setAttribute("aria-label", on ? "Pause" : "Play");
      if (on) {
        last = performance.now();
        requestAnimationFrame(tick);
      }
    }

    function scrub(chart, event) {
      const box = chart.getBoundingClientRect();
      const at = Math.floor(((event.clientX - box.left) / box.width) * frames);
      run(false);
      show(Math.min(frames - 1, Math.max(0, at)));
    }

    play.addEventListener("click", () => run(!playing));
    slider.addEventListener("input", () => {
      run(false);
      show(Number(slider.value));
    });
    opacity.addEventListener("input", () => {
      root.style.setProperty("--opacity", String(Number(opacity.value) / 100));
      opacity.setAttribute("aria-valuetext", `${opacity.value} percent`);
    });
    for (const chart of document.querySelectorAll(".chart")) {
      chart.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        chart.setPointerCapture(event.pointerId);
        scrub(chart, event);
      });
      chart.addEventListener("pointermove", (event) => {
        if (chart.hasPointerCapture(event.pointerId)) scrub(chart, event);
      });
    }
    addEventListener("keydown", (event) => {
      const busy = event.target.closest("input, select, button, summary, a");
      if (busy || event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.key === " ") run(!playing);
      else if (event.key === "ArrowRight") { run(false); show(frame + 1); }
      else if (event.key === "ArrowLeft") { run(false); show(frame - 1); }
      else return;
      event.preventDefault();
    });
    still.addEventListener("change", () => { if (still.matches) run(false); });

    player.hidden = false;
    show(0);
    run(!still.matches);
  });
})();
