// A trained network in the browser: what nnlib's layers compute when they predict, channels last as there.
//
// Its one idea: a layer is a function from one array to the next, made once from its weights; LAYERS lists them all.
// An array is {data: Float32Array, shape: [N, ...]}. Sums are kept in double precision and stored in single.

const Net = (() => {
  const LAYERS = {
    Linear: linear,
    ReLU: () => (x) => each(x, (value) => Math.max(value, 0)),
    Tanh: () => (x) => each(x, Math.tanh),
    Flatten: () => (x) => ({ data: x.data, shape: [x.shape[0], size(x.shape.slice(1))] }),
    Dropout: () => (x) => x, // it drops while training only
    Conv2d: conv2d,
    MaxPool2d: (layer) => pool(layer, largest),
    AvgPool2d: (layer) => pool(layer, mean),
    RNN: (layer) => recurrent(layer, 1, simpleStep),
    GRU: (layer) => recurrent(layer, 3, gatedStep),
  };

  // ---- layers without time -------------------------------------------------------------------------------------

  function linear({ W, b }) {
    const [inputs, outputs] = W.shape;
    return (x) => {
      expect(x.shape.length === 2 && x.shape[1] === inputs, "Linear", `(N, ${inputs})`, x.shape);
      const y = empty([x.shape[0], outputs]);
      for (let n = 0; n < x.shape[0]; n++) {
        const sums = Float64Array.from(b.data);
        for (let i = 0; i < inputs; i++) addRow(sums, x.data[n * inputs + i], W.data, i * outputs);
        y.data.set(sums, n * outputs);
      }
      return y;
    };
  }

  function conv2d({ W, b, stride, padding }) {
    const [kh, kw, inputs, outputs] = W.shape;
    return (x) => {
      expect(x.shape.length === 4 && x.shape[3] === inputs, "Conv2d", `(N, H, W, ${inputs})`, x.shape);
      return slide(x, outputs, { kernel_size: [kh, kw], stride, padding }, (pixels, sums) => {
        sums.set(b.data);
        pixels.forEach((pixel, place) => {
          if (pixel < 0) return; // in the padding, where all is 0
          for (let c = 0; c < inputs; c++) addRow(sums, x.data[pixel + c], W.data, (place * inputs + c) * outputs);
        });
      });
    };
  }

  function pool(layer, summary) {
    return (x) => {
      expect(x.shape.length === 4, "a pool", "(N, H, W, C)", x.shape);
      return slide(x, x.shape[3], layer, (pixels, values) => {
        for (let c = 0; c < values.length; c++) values[c] = summary(x.data, pixels, c);
      });
    };
  }

  function largest(data, pixels, c) {
    let best = -Infinity; // what the padding counts as: it never wins
    for (const pixel of pixels) if (pixel >= 0) best = Math.max(best, data[pixel + c]);
    return best;
  }

  function mean(data, pixels, c) {
    let sum = 0;
    for (const pixel of pixels) if (pixel >= 0) sum += data[pixel + c];
    return sum / pixels.length; // the zeros of the padding count
  }

  // Slide a window over pictures. For each position, fill(pixels, values) gets where the window's pixels begin in
  // x.data (-1 in the padding), in the kernel's order, and writes the output's channels into `values`.
  function slide(x, channels, { kernel_size: [kh, kw], stride: [sh, sw], padding: [ph, pw] }, fill) {
    const [N, H, W, C] = x.shape;
    const [Ho, Wo] = [Math.floor((H + 2 * ph - kh) / sh) + 1, Math.floor((W + 2 * pw - kw) / sw) + 1];
    if (Ho < 1 || Wo < 1) throw new Error(`a kernel of ${kh} by ${kw} is larger than the padded picture`);
    const y = empty([N, Ho, Wo, channels]);
    const [pixels, values] = [new Int32Array(kh * kw), new Float64Array(channels)];
    let output = 0;
    for (let n = 0; n < N; n++) {
      for (let top = -ph; top <= H + ph - kh; top += sh) {
        for (let left = -pw; left <= W + pw - kw; left += sw) {
          for (let place = 0; place < kh * kw; place++) {
            const [row, column] = [top + Math.floor(place / kw), left + (place % kw)];
            const inside = row >= 0 && row < H && column >= 0 && column < W;
            pixels[place] = inside ? ((n * H + row) * W + column) * C : -1;
          }
          fill(pixels, values);
          y.data.set(values, output);
          output += channels;
        }
      }
    }
    return y;
  }

  // ---- recurrent layers ----------------------------------------------------------------------------------------

  function recurrent({ Wx, Wh, b, return_sequences: all }, gates, step) {
    const [D, H] = [Wx.shape[0], Wh.shape[0]];
    return (x) => {
      expect(x.shape.length === 3 && x.shape[2] === D, "a recurrent layer", `(N, T, ${D})`, x.shape);
      const [N, T] = x.shape;
      const y = empty(all ? [N, T, H] : [N, H]);
      for (let n = 0; n < N; n++) {
        const state = new Float32Array(H);
        for (let t = 0; t < T; t++) {
          const fromInput = Float64Array.from(b.data);
          for (let d = 0; d < D; d++) addRow(fromInput, x.data[(n * T + t) * D + d], Wx.data, d * gates * H);
          const fromState = new Float64Array(gates * H);
          for (let h = 0; h < H; h++) addRow(fromState, state[h], Wh.data, h * gates * H);
          for (let h = 0; h < H; h++) state[h] = step(fromInput, fromState, h, H, state[h]);
          if (all) y.data.set(state, (n * T + t) * H);
        }
        if (!all) y.data.set(state, n * H);
      }
      return y;
    };
  }

  function simpleStep(a, c, h) {
    return Math.tanh(a[h] + c[h]);
  }

  function gatedStep(a, c, h, H, before) {
    const reset = sigmoid(a[h] + c[h]); // three blocks of H columns: r, z, n
    const update = sigmoid(a[H + h] + c[H + h]);
    const candidate = Math.tanh(a[2 * H + h] + reset * c[2 * H + h]);
    return (1 - update) * candidate + update * before;
  }

  // ---- arithmetic ----------------------------------------------------------------------------------------------

  // sums += x * (the row of weights that begins at `start`): every product of this file is made of these.
  function addRow(sums, x, weights, start) {
    if (x === 0) return; // ink is rare, and half of what leaves a ReLU is 0
    for (let j = 0; j < sums.length; j++) sums[j] += x * weights[start + j];
  }

  function each(x, f) {
    return { data: x.data.map((value) => f(value)), shape: x.shape };
  }

  function sigmoid(value) {
    return 1 / (1 + Math.exp(-value));
  }

  function softmax(logits) {
    const highest = Math.max(...logits); // without it, exp would overflow
    const powers = Float64Array.from(logits, (logit) => Math.exp(logit - highest));
    const sum = powers.reduce((a, b) => a + b, 0);
    return Float32Array.from(powers, (power) => power / sum);
  }

  function size(shape) {
    return shape.reduce((a, b) => a * b, 1);
  }

  function empty(shape) {
    return { data: new Float32Array(size(shape)), shape };
  }

  function expect(holds, name, expected, shape) {
    if (!holds) throw new Error(`${name} expects ${expected}, got (${shape.join(", ")})`);
  }

  // ---- weights -------------------------------------------------------------------------------------------------

  // An encoded array -> {data: Float32Array, shape}. int8 has scales too, one for each column.
  function decode({ scales, ...encoded }) {
    const factors = scales && nn.array(scales);
    const unscaled = nn.array(encoded);
    const data = scales ? Float32Array.from(unscaled, (value, i) => value * factors[i % factors.length]) : unscaled;
    return { data, shape: encoded.shape };
  }

  // The network that nnlib.interactive.network_json wrote: {layers: [{type, its settings, its weights}, ...]}.
  function load({ layers }) {
    const functions = layers.map(({ type, ...settings }) => {
      if (!LAYERS[type]) throw new Error(`net.js does not know the layer ${type}`);
      const decoded = Object.entries(settings).map(([name, value]) => [name, value.base64 ? decode(value) : value]);
      return LAYERS[type](Object.fromEntries(decoded));
    });
    // trace: every layer's output, in order; forward: the last one. data: Float32Array, shape: [N, ...]
    const trace = (data, shape) => {
      const outputs = [{ data, shape }];
      for (const layer of functions) outputs.push(layer(outputs.at(-1)));
      return outputs.slice(1);
    };
    return { trace, forward: (data, shape) => trace(data, shape).at(-1) };
  }

  return { load, softmax };
})();
