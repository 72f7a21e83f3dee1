// Where the boxes of the graph stand: layers from the loss down, and within an unfolded module again layers.
//
// An edge leads from a step to what it hands a gradient. All edges to one value run together where they pass by other
// boxes, as a residual stream does; they enter and leave a module's frame at ports.

const GAP = 14; // between neighbours of a layer
const RISE = 34; // between layers

// Lay out what is in a group: its size, boxes, lines, and the x of its ports by the value that the edge leads to.
function layOut(group, edges, isUnfolded, sizeOf) {
  const inner = new Map(); // the layouts of unfolded groups in it
  const size = (item) => {
    if (item.port || item.bend) return { w: item.port ? 8 : 12, h: 0 };
    if (!item.children || !isUnfolded(item)) return sizeOf(item);
    if (!inner.has(item)) inner.set(item, layOut(item, edges, isUnfolded, sizeOf));
    return { w: Math.max(inner.get(item).w + 24, sizeOf(item).w), h: inner.get(item).h + 42 };
  };
  const { items, links } = levelOf(group, edges);
  const layers = bendLinks(layersOf(items, links), links);
  for (const layer of layers) for (const item of layer) Object.assign((item.place = {}), size(item));
  untangle(layers, links);
  const width = stand(layers, links);

  const found = { w: width, h: 0, boxes: [], lines: [], top: new Map(), bottom: new Map() };
  let y = 0;
  layers.forEach((layer, l) => {
    const height = Math.max(...layer.map((item) => item.place.h));
    for (const item of layer) {
      Object.assign(item.place, { y, h: item.bend ? height : item.place.h });
      if (item.port) found[item.port].set(item.to, item.place.x);
    }
    y += height + (l + 1 < layers.length ? (layer[0].port || layers[l + 1][0].port ? RISE / 2 : RISE) : 0);
  });
  found.h = y;
  for (const item of items.filter((item) => !item.port)) {
    const { x, y, w, h } = item.place;
    const within = inner.get(item);
    found.boxes.push({ item, x: x - w / 2, y, w, h, open: within !== undefined });
    if (!within) continue;
    const dx = x - within.w / 2;
    const dy = y + 32;
    found.boxes.push(...within.boxes.map((box) => ({ ...box, x: box.x + dx, y: box.y + dy })));
    found.lines.push(
      ...within.lines.map((line) => ({ ...line, points: line.points.map(([x, y]) => [x + dx, y + dy]) })),
    );
    item.place.ports = { top: shifted(within.top, dx), bottom: shifted(within.bottom, dx), y: dy, h: within.h };
  }
  for (const link of links) {
    if (link.replaced) continue;
    const a = link.a.place;
    const b = link.b.place;
    const from = [a.ports?.bottom.get(link.to) ?? a.x, a.ports ? a.ports.y + a.ports.h : a.y + a.h];
    const into = [b.ports?.top.get(link.to) ?? b.x, b.ports ? b.ports.y : b.y];
    const points = [from, into];
    if (link.b.bend) points.push([b.x, b.y + b.h]);
    found.lines.push({ points, to: link.to, users: link.users, arrow: !link.b.bend && !link.b.port && !b.ports });
  }
  return found;
}

const shifted = (ports, dx) => new Map([...ports].map(([to, x]) => [to, x + dx]));

// The items of a group with ports for edges that cross its frame, and the links between them: {a, b, to, users}.
function levelOf(group, edges) {
  const items = [...group.children];
  const ports = new Map();
  const port = (side, to) => {
    const key = `${side} ${to.number}`;
    if (!ports.has(key)) ports.set(key, { port: side, to });
    return ports.get(key);
  };
  const itemOf = (node) => {
    const i = node.chain.indexOf(group);
    return i < 0 ? null : node.chain[i + 1];
  };
  const links = new Map();
  for (const { from, to } of edges) {
    const a = itemOf(from) ?? (itemOf(to) && port("top", to));
    const b = itemOf(to) ?? (itemOf(from) && port("bottom", to));
    if (!a || !b || a === b) continue;
    const key = `${items.indexOf(a)} ${a.port} ${items.indexOf(b)} ${to.number}`;
    if (!links.has(key)) links.set(key, { a, b, to, users: new Set() });
    links.get(key).users.add(from);
  }
  return { items: [...items, ...ports.values()], links: [...links.values()] };
}

// Layers of items, each below all that lead to it; an edge that closes a circle of modules does not count.
function layersOf(items, links) {
  const next = new Map(items.map((item) => [item, []]));
  for (const link of links) next.get(link.a).push(link.b);
  const order = [];
  const seen = new Set();
  for (const root of items) {
    // depth first, without recursion: chains may be long
    const stack = seen.has(root) ? [] : [[root, 0]];
    seen.add(root);
    while (stack.length) {
      const [item, i] = stack.at(-1);
      stack.at(-1)[1] += 1;
      if (i === next.get(item).length) order.unshift(stack.pop()[0]);
      else if (!seen.has(next.get(item)[i])) {
        seen.add(next.get(item)[i]);
        stack.push([next.get(item)[i], 0]);
      }
    }
  }
  const rank = new Map(order.map((item, i) => [item, i]));
  const layer = new Map(order.map((item) => [item, 0]));
  const hasTop = items.some((item) => item.port === "top");
  for (const item of order) if (hasTop && item.port !== "top") layer.set(item, 1);
  for (const a of order) {
    for (const b of next.get(a)) if (rank.get(a) < rank.get(b)) layer.set(b, Math.max(layer.get(b), layer.get(a) + 1));
  }
  const last = Math.max(...order.filter((item) => item.port !== "bottom").map((item) => layer.get(item)));
  const layers = [];
  for (const item of order) {
    item.layer = item.port === "bottom" ? last + 1 : layer.get(item);
    (layers[item.layer] ??= []).push(item);
  }
  return layers;
}

// Let long links pass through a bend in every layer between, one for all that lead to the same value.
function bendLinks(layers, links) {
  const bends = new Map();
  const join = (a, b, link) => {
    const known = links.find((one) => one.a === a && one.b === b && one.to === link.to && !one.replaced);
    if (known) link.users.forEach((user) => known.users.add(user));
    else links.push({ a, b, to: link.to, users: new Set(link.users) });
  };
  for (const link of [...links]) {
    if (link.b.layer - link.a.layer < 2) continue;
    link.replaced = true;
    let a = link.a;
    for (let l = link.a.layer + 1; l < link.b.layer; l++) {
      const key = `${l} ${link.to.number}`;
      if (!bends.has(key)) {
        bends.set(key, { bend: true, layer: l });
        layers[l].push(bends.get(key));
      }
      join(a, bends.get(key), link);
      a = bends.get(key);
    }
    join(a, link.b, link);
  }
  return layers;
}

// Order each layer by where its neighbours are, a few times down and up.
function untangle(layers, links) {
  for (let sweep = 0; sweep < 10; sweep++) {
    layers.forEach((layer) =>
      layer.forEach((item, i) => {
        item.rank = (i + 0.5) / layer.length;
      }),
    );
    const up = sweep % 2 === 1;
    for (const layer of up ? [...layers].reverse() : layers) {
      for (const item of layer) {
        const near = links
          .filter((link) => !link.replaced && (up ? link.a : link.b) === item)
          .map((link) => (up ? link.b : link.a).rank);
        item.wish = near.length ? near.reduce((a, b) => a + b) / near.length : item.rank;
      }
      layer.sort((a, b) => a.wish - b.wish);
      layer.forEach((item, i) => {
        item.rank = (i + 0.5) / layer.length;
      });
    }
  }
}

// Give all items an x, near their neighbours', without overlap; return the width.
function stand(layers, links) {
  for (const layer of layers) {
    let x = 0;
    for (const item of layer) {
      item.place.x = x + item.place.w / 2;
      x += item.place.w + GAP;
    }
    for (const item of layer) item.place.x -= x / 2;
  }
  const near = new Map(layers.flat().map((item) => [item, []]));
  for (const link of links.filter((link) => !link.replaced)) {
    const weight = link.a.bend && link.b.bend ? 9 : 1; // what passes by shall be straight
    near.get(link.a).push([link.b, weight]);
    near.get(link.b).push([link.a, weight]);
  }
  for (let sweep = 0; sweep < 24; sweep++) {
    for (const layer of sweep % 2 ? [...layers].reverse() : layers) {
      spread(
        layer,
        layer.map((item) => {
          const weights = near.get(item).reduce((sum, [, weight]) => sum + weight, 0);
          return weights
            ? near.get(item).reduce((sum, [other, weight]) => sum + weight * other.place.x, 0) / weights
            : item.place.x;
        }),
      );
    }
  }
  const left = Math.min(...layers.flat().map((item) => item.place.x - item.place.w / 2));
  for (const item of layers.flat()) item.place.x -= left;
  return Math.max(...layers.flat().map((item) => item.place.x + item.place.w / 2));
}

// The places nearest to the wishes, in the least squares, that keep order and distance: pool adjacent violators.
function spread(layer, wishes) {
  let offset = 0;
  const offsets = layer.map((item, i) => {
    offset += i ? (layer[i - 1].place.w + item.place.w) / 2 + GAP : 0;
    return offset;
  });
  const pools = [];
  wishes.forEach((wish, i) => {
    pools.push({ sum: wish - offsets[i], n: 1 });
    while (pools.length > 1 && pools.at(-2).sum / pools.at(-2).n > pools.at(-1).sum / pools.at(-1).n) {
      const { sum, n } = pools.pop();
      pools.at(-1).sum += sum;
      pools.at(-1).n += n;
    }
  });
  let i = 0;
  for (const { sum, n } of pools) for (let end = i + n; i < end; i++) layer[i].place.x = sum / n + offsets[i];
}
