// Draws the charts of the page. Everything it needs is in the page: nothing is fetched.
(() => {
  "use strict";
  const { shared, charts } = JSON.parse(document.getElementById("charts").textContent);
  const coarse = matchMedia("(pointer: coarse)").matches;
  const config = { displaylogo: false, responsive: true, displayModeBar: false, scrollZoom: false };

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function theme() {
    const [ink, line, paper] = ["--ink", "--line", "--paper"].map(colour);
    const axis = { gridcolor: line, zerolinecolor: line, linecolor: line };
    return {
      paper_bgcolor: paper, plot_bgcolor: paper, font: { color: ink },
      hoverlabel: { bgcolor: paper, bordercolor: line, font: { color: ink } },
      xaxis: axis, yaxis: axis,
    };
  }

  const axis = () => ({ automargin: true, fixedrange: coarse, title: { font: { size: 13 }, standoff: 10 } });

  // Objects are joined, later ones win; arrays and values are replaced.
  function join(...parts) {
    const all = {};
    for (const part of parts) {
      for (const [key, value] of Object.entries(part || {})) {
        const both = [all[key], value].every((x) => x && typeof x === "object" && !Array.isArray(x));
        all[key] = both ? join(all[key], value) : value;
      }
    }
    return all;
  }

  const resolved = (traces) =>
    traces.map((trace) => (typeof trace.x === "string" ? { ...trace, x: shared[trace.x.slice(1)] } : { ...trace }));

  function layout(chart, choice) {
    return join(
      {
        autosize: true, margin: { l: 8, r: 8, t: 10, b: 8 }, hovermode: "x unified",
        dragmode: coarse ? false : "zoom",
        font: { family: "system-ui, sans-serif", size: 13 },
        legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
        xaxis: axis(), yaxis: axis(),
      },
      theme(), chart.layout, choice && choice.layout,
    );
  }

  const drawn = [];
  for (const [name, chart] of Object.entries(charts)) {
    const place = document.getElementById("chart-" + name);
    const pick = document.getElementById("pick-" + name);
    const log = document.getElementById("log-" + name);
    const draw = () => {
      const choice = pick ? chart.choices[Number(pick.value)] : null;
      const shape = layout(chart, choice);
      if (log) {
        shape.yaxis.type = log.checked ? "log" : "linear";
        if (!log.checked) { delete shape.yaxis.tickvals; delete shape.yaxis.ticktext; }
      }
      return Plotly.react(place, resolved(choice ? choice.traces : chart.traces), shape, config);
    };
    if (pick) pick.addEventListener("change", draw);
    if (log) log.addEventListener("change", draw);
    drawn.push(draw);
  }
  const drawAll = () => Promise.all(drawn.map((draw) => draw()));
  drawAll().then(() => document.documentElement.setAttribute("data-drawn", "yes"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
})();
