'use strict';
(function () {
  const byId = id => document.getElementById(id);
  const table = byId('models'), body = table.tBodies[0], rows = Array.from(body.rows);
  const models = new Map(JSON.parse(byId('data').textContent).map(model => [model.name, model]));

  const controls = ['search', 'task', 'fusion', 'dataset', 'released'].map(byId);
  const heads = Array.from(table.tHead.rows[0].cells);

  // The filters and the order are kept in the address, so that a link or a reload shows the same rows.
  function keep() {
    const state = new URLSearchParams();
    for (const control of controls) {
      const value = control.type === 'checkbox' ? (control.checked ? '1' : '') : control.value;
      if (value) state.set(control.id, value);
    }
    const sorted = heads.findIndex(head => head.getAttribute('aria-sort') !== 'none');
    if (sorted >= 0) state.set('sort', (heads[sorted].getAttribute('aria-sort') === 'descending' ? '-' : '') + sorted);
    history.replaceState(null, '', '#' + (String(state) || 'networks'));
  }
  function restore() {
    if (!location.hash.includes('=')) return;
    const state = new URLSearchParams(location.hash.slice(1));
    for (const control of controls) {
      if (control.type === 'checkbox') control.checked = state.has(control.id);
      else control.value = state.get(control.id) || '';
    }
    filter();
    const sorted = state.get('sort') || '', head = heads[Math.abs(parseInt(sorted, 10))];
    if (head) sort(head, !sorted.startsWith('-'));
    byId('networks').scrollIntoView();
  }

  function filter() {
    const words = byId('search').value.toLowerCase().split(/\s+/).filter(Boolean);
    const task = byId('task').value, fusion = byId('fusion').value, dataset = byId('dataset').value, released = byId('released').checked;
    let shown = 0;
    for (const row of rows) {
      const model = models.get(row.dataset.name);
      row.hidden = !(words.every(word => row.dataset.text.includes(word)) && (!task || model.task === task)
        && (!fusion || model.fusion === fusion) && (!dataset || model.dataset === dataset) && (!released || model.weights));
      shown += !row.hidden;
    }
    byId('count').textContent = shown + (shown === 1 ? ' network' : ' networks');
    byId('none').hidden = shown > 0;
  }
  byId('filters').addEventListener('input', () => { filter(); keep(); });
  byId('filters').addEventListener('submit', event => event.preventDefault());
  filter();   // a browser may have kept what was typed before a reload

  function sort(head, up) {
    const column = head.cellIndex;
    const cell = row => row.cells[column];
    const compare = (a, b) => {
      const x = cell(a).dataset.value, y = cell(b).dataset.value;
      if (x === undefined || y === undefined) {
        if (x !== undefined || y !== undefined) return x === undefined ? 1 : -1;   // unknown values come last
        const order = cell(a).textContent.localeCompare(cell(b).textContent, 'en', {numeric: true});
        return up ? order : -order;
      }
      return up ? x - y : y - x;
    };
    for (const other of heads) other.setAttribute('aria-sort', 'none');
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    body.append(...rows.sort(compare));
  }
  for (const head of heads) {
    head.firstElementChild.addEventListener('click', () => {
      sort(head, head.getAttribute('aria-sort') !== 'ascending');
      keep();
    });
  }

  async function copy(button, text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch (error) {   // not allowed to a page from a file in some browsers
      const field = document.createElement('textarea');
      field.value = text;
      document.body.append(field);
      field.select();
      document.execCommand('copy');
      field.remove();
      button.focus();
    }
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  }
  for (const code of document.querySelectorAll('details.model pre')) {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'copy';
    button.textContent = 'Copy';
    button.setAttribute('aria-label', 'Copy: ' + code.previousElementSibling.textContent);
    button.addEventListener('click', () => copy(button, code.textContent));
    code.before(button);
  }

  const tip = byId('tip');
  let lit = null;
  function hide() {
    tip.hidden = true;
    if (lit) lit.classList.remove('lit');
    lit = null;
  }
  function show(mark) {
    if (mark === lit) return;
    hide();
    lit = mark;
    mark.classList.add('lit');
    const area = mark.getBoundingClientRect();
    tip.textContent = mark.dataset.tip;
    tip.hidden = false;
    const left = area.left + area.width / 2 - tip.offsetWidth / 2;
    const room = document.documentElement.clientWidth - tip.offsetWidth - 4;
    tip.style.left = window.scrollX + Math.max(4, Math.min(left, room)) + 'px';
    const above = area.top - tip.offsetHeight - 6;
    tip.style.top = window.scrollY + (above > 0 ? above : area.bottom + 6) + 'px';
  }
  for (const chart of document.querySelectorAll('svg')) {
    const marks = Array.from(chart.querySelectorAll('[data-tip]'));
    chart.addEventListener('pointermove', event => {
      const bar = event.target.closest('.bar');
      if (bar) return show(bar);
      // The nearest point, as marks may cover each other.
      let best = null, least = 18;
      for (const mark of marks.filter(mark => mark.classList.contains('point'))) {
        const box = mark.getBoundingClientRect();
        const far = Math.hypot(event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2);
        if (far < least) [best, least] = [mark, far];
      }
      if (best) show(best); else hide();
    });
    chart.addEventListener('pointerleave', hide);
    for (const mark of marks) {
      mark.addEventListener('focus', () => show(mark));
      mark.addEventListener('blur', hide);
    }
  }
  document.addEventListener('keydown', event => { if (event.key === 'Escape') hide(); });

  function open() {
    const target = location.hash && byId(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === 'DETAILS') {
      target.open = true;
      target.scrollIntoView();
      target.firstElementChild.focus({preventScroll: true});
    }
  }
  window.addEventListener('hashchange', () => { restore(); open(); });
  restore();
  open();
})();
