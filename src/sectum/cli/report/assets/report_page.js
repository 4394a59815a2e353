"use strict";
(function () {
  var data = JSON.parse(document.getElementById("data").textContent);
  var tip = document.getElementById("tip");

  function showTip(title, lines, x, y) {
    tip.replaceChildren();
    var head = document.createElement("b");
    head.textContent = title;
    tip.append(head);
    lines.forEach(function (line) {
      var row = document.createElement("div");
      row.textContent = line;
      tip.append(row);
    });
    tip.hidden = false;
    var box = tip.getBoundingClientRect();
    var left = x + 16 + box.width > innerWidth ? x - 16 - box.width : x + 16;
    var top = y + 16 + box.height > innerHeight ? y - 16 - box.height : y + 16;
    tip.style.left = Math.max(8, Math.min(left, innerWidth - box.width - 8)) + "px";
    tip.style.top = Math.max(8, top) + "px";
  }

  function hideTip() { tip.hidden = true; }

  function describeLayer(layer) {
    showTip.apply(null, [layer.name || "(no name)", [layer.type].concat(layer.lines)].concat([].slice.call(arguments, 1)));
  }

  /* Charts: a pointer or the arrow keys move a cursor over the points. */
  document.querySelectorAll("[data-scrub]").forEach(function (area) {
    var plots = area.querySelectorAll(".plot");
    var layers = area.dataset.scrub === "layers";
    var points = layers ? data.layers : data.curve;
    if (!points.length) { return; }
    var low = layers ? 0 : Math.log2(points[0].epc);
    var span = layers ? points.length : Math.log2(points[points.length - 1].epc) - low || 1;
    var places = points.map(function (point, index) {
      return layers ? (index + 0.5) / span : (Math.log2(point.epc) - low) / span;
    });
    var cursors = [].map.call(plots, function (plot) {
      var line = document.createElement("span");
      line.className = "cursor";
      line.hidden = true;
      plot.append(line);
      return line;
    });
    var current = 0;

    function hide() {
      hideTip();
      cursors.forEach(function (line) { line.hidden = true; });
    }

    function show(index, y) {
      current = index;
      var box = plots[0].getBoundingClientRect();
      cursors.forEach(function (line) {
        line.hidden = false;
        line.style.left = 100 * places[index] + "%";
      });
      var x = box.left + places[index] * box.width;
      if (layers) { describeLayer(points[index], x, y); } else { showTip(points[index].title, points[index].lines, x, y); }
    }

    area.addEventListener("pointermove", function (event) {
      var box = plots[0].getBoundingClientRect();
      var share = (event.clientX - box.left) / box.width;
      if (share < 0 || share > 1) { hide(); return; }
      var best = 0;
      places.forEach(function (place, index) {
        if (Math.abs(place - share) < Math.abs(places[best] - share)) { best = index; }
      });
      show(best, event.clientY);
    });
    area.addEventListener("pointerleave", hide);
    area.addEventListener("blur", hide);
    area.addEventListener("keydown", function (event) {
      var step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === "Escape") { hide(); return; }
      if (!step) { return; }
      event.preventDefault();
      show(Math.min(points.length - 1, Math.max(0, current + step)), plots[0].getBoundingClientRect().top);
    });
  });

  /* The table of costs: sorting, how many rows, details. */
  var body = document.querySelector("#costs tbody");
  var rows = [].filter.call(body.rows, function (row) { return row.dataset.i !== undefined; });
  var showAll = document.getElementById("show-all");
  var all = false;
  var label = showAll.textContent;

  function arrange() {
    var pressed = document.querySelector("[data-sort][aria-pressed=true]");
    var key = pressed.dataset.sort;
    rows.sort(function (a, b) {
      var one = data.layers[a.dataset.i], other = data.layers[b.dataset.i];
      return key === "order" ? one.order - other.order : other[key] - one[key] || one.order - other.order;
    });
    rows.forEach(function (row, index) {
      row.hidden = !all && index >= data.shown;
      body.append(row);
    });
    var rest = body.querySelector(".rest");
    if (rest) { body.append(rest); }
  }

  document.querySelectorAll("[data-sort]").forEach(function (button) {
    button.addEventListener("click", function () {
      document.querySelectorAll("[data-sort]").forEach(function (other) {
        other.setAttribute("aria-pressed", String(other === button));
      });
      arrange();
    });
  });
  showAll.addEventListener("click", function () {
    all = !all;
    showAll.setAttribute("aria-expanded", String(all));
    showAll.textContent = all ? "Show fewer" : label;
    arrange();
  });
  showAll.hidden = rows.length <= data.shown;
  document.querySelector(".tools").hidden = false;
  body.addEventListener("pointermove", function (event) {
    var row = event.target.closest("tr");
    if (row && row.dataset.i !== undefined) { describeLayer(data.layers[row.dataset.i], event.clientX, event.clientY); } else { hideTip(); }
  });
  body.addEventListener("pointerleave", hideTip);
  addEventListener("scroll", hideTip, { passive: true });
})();
