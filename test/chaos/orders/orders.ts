/** The reducers of a run's rounds, all of them together, through very many orders of events. */
import fc from 'fast-check';
import { Network } from './network.ts';

/** What may happen, and how often. Most often the work goes on. */
const happenings = {
  work: 16,
  stride: 10,
  deliverUp: 24,
  deliverDown: 14,
  deliverManifest: 10,
  transfer: 12,
  twice: 3,
  flush: 4,
  connect: 8,
  cut: 2,
  mend: 3,
  killSite: 3,
  startSite: 5,
  killCoordinator: 3,
  startCoordinator: 6,
  dieLater: 3,
  withdraw: 1,
  pause: 1,
  resume: 2,
  pauseRun: 1,
  continueRun: 2,
  wait: 6,
} as const;
type Happening = keyof typeof happenings;

export interface Action {
  what: Happening;
  site: number;
  /** Which, how long, or after how many effects. */
  count: number;
}

const mostSites = 4;
const waits = [1_000, 5_000, 20_000, 61_000, 700_000];
const action: fc.Arbitrary<Action> = fc.record({
  what: fc.oneof(
    ...Object.entries(happenings).map(([what, weight]) => ({
      weight,
      arbitrary: fc.constant(what as Happening),
    })),
  ),
  site: fc.nat(mostSites - 1),
  count: fc.nat(7),
});

export const order = fc.record({
  settings: fc
    .record({
      sites: fc.integer({ min: 2, max: mostSites }),
      share: fc.double({ min: 0, max: 1, noNaN: true }),
      participation: fc.constantFrom<number>(1, 1, 1, 0.6),
      rounds: fc.integer({ min: 1, max: 3 }),
    })
    .map(({ share, ...rest }) => ({ ...rest, quorum: 1 + Math.floor(share * (rest.sites - 1)) })),
  actions: fc.array(action, { minLength: 10, maxLength: 200, size: 'max' }),
});
export type Order = typeof order extends fc.Arbitrary<infer Drawn> ? Drawn : never;

type Act = (network: Network, index: number, count: number, site: number) => void;

const acts: Record<Happening, Act> = {
  work: (network, index) => network.atSite(index, (site) => site.work()),
  stride: (network, index) => network.stride(index),
  deliverUp: (network, index) => network.deliver(index, 'up', false),
  deliverDown: (network, index) => network.deliver(index, 'down', false),
  deliverManifest: (network, index) => network.deliver(index, 'manifests', false),
  twice: (network, index, count) =>
    network.deliver(index, (['up', 'down', 'manifests'] as const)[count % 3]!, true),
  transfer: (network, _index, count) => network.transfer(count),
  flush: (network, index) => network.flush(index),
  connect: (network, index) => network.connect(index),
  cut: (network, index) => network.setLink(index, false),
  mend: (network, index) => network.setLink(index, true),
  killSite: (network, index) => network.killSite(index),
  startSite: (network, index) => network.startSite(index),
  killCoordinator: (network) => network.killCoordinator(),
  startCoordinator: (network) => network.startCoordinator(),
  dieLater(network, index, count, site) {
    if (site % 2 === 0) network.coordinator.dieAfter = count;
    else network.nodes[index]!.site.dieAfter = count;
  },
  withdraw: (network, index) => network.atSite(index, (site) => site.withdraw()),
  pause: (network, index) => network.atSite(index, (site) => site.pause(true)),
  resume: (network, index) => network.atSite(index, (site) => site.pause(false)),
  pauseRun: (network) => network.pauseRun(true),
  continueRun: (network) => network.pauseRun(false),
  wait: (network, _index, count) => network.wait(waits[count % waits.length]!),
};

function act(network: Network, { what, site, count }: Action): void {
  acts[what](network, site % network.nodes.length, count, site);
}

/** Everybody is there and nothing gets lost any more. */
function letWell(network: Network): void {
  network.coordinator.dieAfter = null;
  network.startCoordinator();
  network.pauseRun(false);
  for (const [index, { site }] of network.nodes.entries()) {
    site.dieAfter = null;
    network.startSite(index);
    network.setLink(index, true);
    network.atSite(index, (one) => one.pause(false));
    network.connect(index);
  }
}

function workOn(network: Network): void {
  for (const index of network.nodes.keys()) {
    network.flush(index);
    for (const queue of ['manifests', 'down', 'up'] as const)
      for (let left = network.nodes[index]![queue].length; left > 0; left--)
        network.deliver(index, queue, false);
    for (let step = 0; step < 6; step++) network.atSite(index, (site) => site.work());
  }
  while (network.coordinator.transfers.length > 0) network.transfer(0);
  network.wait(5_000);
}

/** @returns what was violated; empty when all is well */
export function playOrder({ settings, actions }: Order): string[] {
  const network = new Network(settings);
  // The usual beginning; from there on anything.
  for (const index of network.nodes.keys()) network.connect(index);
  for (const one of actions) {
    act(network, one);
    const found = network.violations();
    if (found.length > 0) return found;
  }
  letWell(network);
  // A round of which nobody knows any more that it waits may have to wait for its deadline.
  const mostTurns = 40 * settings.rounds + 130 * (settings.rounds + 1);
  for (let turn = 0; turn < mostTurns && !network.isRunOver; turn++) workOn(network);
  for (let turn = 0; turn < 3; turn++) workOn(network);
  const found = network.violations();
  if (network.coordinator.status !== 'finished')
    found.push(
      `the run is ${network.coordinator.status} in round ${network.coordinator.round}, and everybody is there`,
    );
  for (const { site } of network.nodes)
    if (site.pending.some(({ message }) => message.type === 'announce'))
      found.push(`${site.siteId} announces an update for ever`);
  return [...found, ...disagreements(network, settings.rounds)];
}

/** Both sides say the same of every round that has closed. */
function disagreements(network: Network, rounds: number): string[] {
  const found: string[] = [];
  for (let round = 0; round < rounds; round++) {
    const record = network.coordinator.roundOf(round);
    for (const { site } of network.nodes) {
      const [own, counted] = [site.rowOf(round), record?.counted.get(site.siteId)];
      if (own?.status === 'received' && counted !== own.updateSha256)
        found.push(`${site.siteId} believes that round ${round} has its update`);
    }
  }
  return found;
}

/** @throws Error with what was violated and the shortest order that was found */
export function tryOrders(runs: number, seed?: number): void {
  const details = fc.check(
    fc.property(order, (given) => {
      const found = playOrder(given);
      if (found.length > 0) throw new Error(found.join('; '));
    }),
    { numRuns: runs, ...(seed === undefined ? {} : { seed }) },
  );
  if (!details.failed) return;
  const [{ settings, actions } = { settings: null, actions: [] }] = details.counterexample ?? [];
  const steps = actions.map(({ what, site, count }) => `${what}(${site}, ${count})`).join(' ');
  const cause = details.errorInstance instanceof Error ? details.errorInstance.message : 'unknown';
  throw new Error(`${cause}\nseed ${details.seed}, ${JSON.stringify(settings)}\n${steps}`);
}
