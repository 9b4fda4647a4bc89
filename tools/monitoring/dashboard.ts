/** The Grafana dashboard: rows of panels over the metrics of the catalogues, from which each panel has its explanation. */

export type PanelKind = 'stat' | 'timeseries';

export interface PanelPlan {
  readonly title: string;
  readonly kind: PanelKind;
  /** As Grafana names it: `s`, `bytes`, `Bps`, `short`, `percentunit`, `dateTimeAsIso`. */
  readonly unit: string;
  readonly queries: readonly { readonly expr: string; readonly legend: string }[];
}

export interface RowPlan {
  readonly title: string;
  readonly panels: readonly PanelPlan[];
}

const agents = '{namespace=~"$namespace",pod=~"$pod"}';
const of = (metric: string): string => `${metric}${agents}`;
const pod = '{{namespace}}/{{pod}}';
const perSecond = (metric: string, more = ''): string =>
  `rate(${metric}{namespace=~"$namespace",pod=~"$pod"${more}}[$__rate_interval])`;

export const rows: readonly RowPlan[] = [
  {
    title: 'The promise',
    panels: [
      one(
        'Pods that miss their objective',
        'stat',
        'short',
        `count(${of('holdfast_objective_met')} == 0) or vector(0)`,
      ),
      one('Pods that meet it', 'stat', 'short', `count(${of('holdfast_objective_met')} == 1) or vector(0)`),
      one('Fenced pods', 'stat', 'short', `sum(${of('holdfast_fenced')}) or vector(0)`),
      one(
        'Pods whose store does not answer',
        'stat',
        'short',
        `count(${of('holdfast_store_reachable')} == 0) or vector(0)`,
      ),
      one('Suspect checkpoints', 'stat', 'short', `sum(${of('holdfast_checkpoint_suspect')}) or vector(0)`),
      one('Agents', 'stat', 'short', `count(${of('holdfast_agent_info')}) or vector(0)`),
      {
        title: 'Age of the newest durable state, and the objective',
        kind: 'timeseries',
        unit: 's',
        queries: [
          { expr: of('holdfast_durable_age_seconds'), legend: pod },
          { expr: of('holdfast_objective_seconds'), legend: `objective of ${pod}` },
        ],
      },
      one('Age of the newest checkpoint', 'timeseries', 's', of('holdfast_checkpoint_age_seconds')),
      {
        title: 'Saving what is unsaved, and the grace for it',
        kind: 'timeseries',
        unit: 's',
        queries: [
          { expr: of('holdfast_grace_needed_seconds'), legend: `${pod} needs` },
          { expr: of('holdfast_grace_seconds'), legend: `${pod} has` },
        ],
      },
      one('Unsaved bytes', 'timeseries', 'bytes', of('holdfast_unsaved_bytes')),
      one('Unsaved files', 'timeseries', 'short', of('holdfast_unsaved_files')),
      {
        title: 'Problems that hold now',
        kind: 'timeseries',
        unit: 'short',
        queries: [{ expr: `sum by (code) (${of('holdfast_problem')})`, legend: '{{code}}' }],
      },
      {
        title: 'Phases',
        kind: 'timeseries',
        unit: 'short',
        queries: [{ expr: `sum by (phase) (${of('holdfast_phase')})`, legend: '{{phase}}' }],
      },
    ],
  },
  {
    title: 'Checkpoints',
    panels: [
      {
        title: 'Captures',
        kind: 'timeseries',
        unit: 'short',
        queries: [{ expr: `sum by (outcome) (${perSecond('holdfast_captures_total')})`, legend: '{{outcome}}' }],
      },
      one(
        'Share of the time that captures take',
        'timeseries',
        'percentunit',
        perSecond('holdfast_capture_seconds_total'),
      ),
      one('New content', 'timeseries', 'Bps', perSecond('holdfast_new_bytes_total')),
      one('Taken in the store', 'timeseries', 'Bps', perSecond('holdfast_stored_bytes_total')),
      one('Rate of saving', 'timeseries', 'Bps', of('holdfast_save_bytes_per_second')),
      one('Bound of the uploads', 'timeseries', 'Bps', of('holdfast_upload_limit_bytes_per_second')),
      one(
        'Share of the time that the bound holds uploads back',
        'timeseries',
        'percentunit',
        perSecond('holdfast_upload_held_back_seconds_total'),
      ),
      one('Size of the newest checkpoint', 'timeseries', 'bytes', of('holdfast_checkpoint_bytes')),
      one('Files in it', 'timeseries', 'short', of('holdfast_checkpoint_files')),
      one('Its slot', 'timeseries', 'short', of('holdfast_checkpoint_slot')),
    ],
  },
  {
    title: 'Volumes and agents',
    panels: [
      {
        title: 'Volumes, and their limits',
        kind: 'timeseries',
        unit: 'bytes',
        queries: [
          { expr: of('holdfast_volume_bytes'), legend: `${pod} {{volume}}` },
          { expr: of('holdfast_volume_limit_bytes'), legend: `limit of ${pod} {{volume}}` },
        ],
      },
      {
        title: 'Watchers',
        kind: 'timeseries',
        unit: 'short',
        queries: [{ expr: `sum by (kind) (${of('holdfast_watcher')})`, legend: '{{kind}}' }],
      },
      one('Changes that no watcher told of', 'timeseries', 'short', perSecond('holdfast_watcher_missed_total')),
      one('Announced ends', 'timeseries', 'short', perSecond('holdfast_notices_total')),
      one('Lineages taken over', 'timeseries', 'short', perSecond('holdfast_fenced_total')),
      one('Memory of the agents', 'timeseries', 'bytes', of('holdfast_process_resident_bytes')),
    ],
  },
  {
    title: 'The webhook',
    panels: [
      {
        title: 'Reviews',
        kind: 'timeseries',
        unit: 'short',
        queries: [
          {
            expr: 'sum by (decision) (rate(holdfast_webhook_reviews_total[$__rate_interval]))',
            legend: '{{decision}}',
          },
        ],
      },
      {
        title: 'Time to an answer',
        kind: 'timeseries',
        unit: 's',
        queries: ['0.5', '0.99'].map((share) => ({
          expr: `histogram_quantile(${share}, sum by (le) (rate(holdfast_webhook_review_seconds_bucket[$__rate_interval])))`,
          legend: `p${Number(share) * 100}`,
        })),
      },
      {
        title: 'The certificate ends in',
        kind: 'stat',
        unit: 's',
        queries: [{ expr: 'min(holdfast_webhook_certificate_expiry_timestamp_seconds) - time()', legend: '' }],
      },
      {
        title: 'Files that were read again',
        kind: 'timeseries',
        unit: 'short',
        queries: [
          {
            expr: 'sum by (file, outcome) (increase(holdfast_webhook_reloads_total[$__rate_interval]))',
            legend: '{{file}} {{outcome}}',
          },
        ],
      },
      {
        title: 'What pods ask',
        kind: 'timeseries',
        unit: 'short',
        queries: [
          {
            expr: 'sum by (question, outcome) (rate(holdfast_webhook_questions_total[$__rate_interval]))',
            legend: '{{question}} {{outcome}}',
          },
        ],
      },
      {
        title: 'Defects',
        kind: 'timeseries',
        unit: 'short',
        queries: [{ expr: 'sum(rate(holdfast_webhook_failures_total[$__rate_interval]))', legend: 'failures' }],
      },
    ],
  },
];

function one(title: string, kind: PanelKind, unit: string, expr: string): PanelPlan {
  return { title, kind, unit, queries: [{ expr, legend: kind === 'stat' ? '' : pod }] };
}

const columns = 24;

/** `helps`: of each metric. The same plan gives the same text. */
export function dashboardJson(helps: ReadonlyMap<string, string>): object {
  const panels: object[] = [];
  let id = 0;
  let y = 0;
  for (const { title, panels: plans } of rows) {
    panels.push({
      id: ++id,
      type: 'row',
      title,
      collapsed: false,
      gridPos: { h: 1, w: columns, x: 0, y: y++ },
      panels: [],
    });
    let x = 0;
    let rowHeight = 0;
    for (const plan of plans) {
      const [w, h] = plan.kind === 'stat' ? [4, 4] : [12, 8];
      if (x + w > columns) {
        x = 0;
        y += rowHeight;
        rowHeight = 0;
      }
      panels.push({ id: ++id, gridPos: { h, w, x, y }, ...panelOf(plan, helps) });
      x += w;
      rowHeight = Math.max(rowHeight, h);
    }
    y += rowHeight;
  }
  return {
    title: 'Holdfast',
    uid: 'holdfast',
    tags: ['holdfast'],
    schemaVersion: 39,
    editable: true,
    refresh: '30s',
    time: { from: 'now-6h', to: 'now' },
    templating: {
      list: [
        { name: 'datasource', type: 'datasource', query: 'prometheus', label: 'Data source' },
        variable('namespace', 'label_values(holdfast_agent_info, namespace)'),
        variable('pod', 'label_values(holdfast_agent_info{namespace=~"$namespace"}, pod)'),
      ],
    },
    panels,
  };
}

function variable(name: string, query: string): object {
  const datasource = { type: 'prometheus', uid: '${datasource}' };
  return {
    name,
    type: 'query',
    datasource,
    query,
    definition: query,
    refresh: 2,
    includeAll: true,
    multi: true,
    allValue: '.*',
  };
}

function panelOf({ title, kind, unit, queries }: PanelPlan, helps: ReadonlyMap<string, string>): object {
  const datasource = { type: 'prometheus', uid: '${datasource}' };
  const metrics = [...new Set(queries.flatMap(({ expr }) => expr.match(/holdfast_[a-z_]+/g) ?? []))];
  return {
    type: kind,
    title,
    description: metrics.map((metric) => `${metric}: ${helps.get(metric.replace(/_bucket$/, '')) ?? ''}`).join('\n'),
    datasource,
    fieldConfig: { defaults: { unit, min: 0 }, overrides: [] },
    options:
      kind === 'stat'
        ? { reduceOptions: { calcs: ['lastNotNull'] }, colorMode: 'value' }
        : { legend: { displayMode: 'list', placement: 'bottom' }, tooltip: { mode: 'multi' } },
    targets: queries.map(({ expr, legend }, at) => ({
      refId: String.fromCharCode(65 + at),
      datasource,
      expr,
      legendFormat: legend,
    })),
  };
}
