// What the figures on photographs share: networks that are asked about pictures, bars for what they answer.
// A picture is a Float32Array of values in 0..1, row by row, the colours of a pixel side by side.

const Photos = (() => {
  const { element } = nn;

  // What Python wrote of a network -> ask(pictures, count): `count` pictures in one array -> logits, an array for each.
  function network({ network, gain, offset, shape }) {
    const net = Net.load(network);
    const C = gain.length;
    return (pictures, count = 1) => {
      const prepared = pictures.map((value, i) => gain[i % C] * value + offset[i % C]);
      const { data, shape: [, K] } = net.forward(prepared, [count, ...shape]);
      return Array.from({ length: count }, (_, n) => data.slice(n * K, (n + 1) * K));
    };
  }

  // An encoded array (n, ...) -> a list of n arrays, each with its .shape.
  function list(encoded) {
    const all = nn.array(encoded);
    const [n, ...shape] = all.shape;
    return Array.from({ length: n }, (_, k) => {
      const part = all.subarray((k * all.length) / n, ((k + 1) * all.length) / n);
      return Object.assign(part, { shape });
    });
  }

  // Levels 0..255 -> values 0..1, as nnlib makes them.
  const floats = (levels) => Object.assign(Float32Array.from(levels, (level) => level / 255), { shape: levels.shape });

  // The texts by which one chooses a picture.
  const captions = (labels, names) => labels.map((label, k) => `${k + 1}: ${names[label]}`);

  function show(canvas, picture) {
    nn.pixels(canvas, picture, { width: canvas.width, height: canvas.height, low: 0, high: 1 });
  }

  const best = (values) => values.indexOf(Math.max(...values));
  const percent = (share) => `${(100 * share).toFixed(1)} %`;

  // A table with a line for each class and a column for each network: update([probabilities, ...], true class).
  function answers(classes, networks) {
    const columns = `minmax(4rem, 6rem) repeat(${networks.length}, minmax(0, 1fr))`;
    const style = `display: grid; grid-template-columns: ${columns}; gap: 0 0.75rem; align-items: center`;
    const heads = networks.map((name) => {
      const said = nn.output(`${name} says`);
      said.element.style.fontWeight = "bold";
      return said;
    });
    const lines = classes.map((label) => {
      const cells = networks.map((name) => cell(`${name}: ${label}`));
      const line = element("div", { style }, element("span", {}, label), ...cells.map(({ made }) => made));
      return { cells, line };
    });
    const title = (name) => element("small", {}, `${name} says`);
    const named = (name, k) => element("div", {}, title(name), element("br"), heads[k].element);
    const head = element("div", { style }, element("span"), ...networks.map(named));
    const table = nn.column(head, ...lines.map(({ line }) => line));
    table.style.gap = "0.15rem";
    function update(probabilities, truth) {
      probabilities.forEach((p, n) => {
        const right = best(p) === truth;
        heads[n].text = `${classes[best(p)]} ${right ? "✓" : "✗"}`;
        heads[n].element.style.color = right ? "var(--cool)" : "var(--warm)";
        lines.forEach(({ cells, line }, k) => {
          cells[n].update(p[k], k === best(p));
          line.firstChild.style.fontWeight = k === truth ? "bold" : "normal"; // the true class
        });
      });
    }
    return { element: table, update };
  }

  function cell(name) {
    const number = nn.output(name);
    number.element.setAttribute("aria-live", "off"); // the answers are read out; all the numbers would be too many
    number.element.style.cssText = "text-align: right; white-space: nowrap; font-size: 0.875rem";
    const bar = element("div", { style: "height: 100%" });
    const track = element("div", {}, bar);
    track.style.cssText = "height: 0.7rem; border-radius: 0.2rem; overflow: hidden; background: var(--grid)";
    const style = "display: grid; grid-template-columns: minmax(0, 1fr) 3.6rem; gap: 0.3rem; align-items: center";
    const made = element("div", { style }, track, number.element);
    function update(p, first) {
      number.text = percent(p);
      number.element.dataset.value = p; // all its digits
      bar.style.width = `${100 * p}%`;
      bar.style.background = first ? "var(--accent)" : "var(--muted)";
    }
    return { made, update };
  }

  // A canvas with a line of text below it.
  function captioned(canvas, ...caption) {
    const style = "display: grid; gap: 0.25rem; justify-items: start; align-content: start; min-width: 0";
    return element("div", { style }, canvas, element("small", {}, ...caption));
  }

  return { network, list, floats, captions, show, best, percent, answers, captioned };
})();
