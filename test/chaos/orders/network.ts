/**
 * A coordinator and sites over a network as MQTT gives it: in order on each topic of each connection, but late, twice, or
 * lost with the connection; and nothing is said about the order between topics. Each process may die after any effect.
 */
import { defaultRunConfig } from '../../../core/config/run-config.ts';
import { isOver, type RunRules } from '../../../core/coordinator/run-events.ts';
import type { ManifestBody, ReceiptBody } from '../../../core/transport/messages.ts';
import { manifestOf } from '../../fixtures/manifests.ts';
import { CoordinatorModel, type PublishedManifest, runId } from './coordinator-model.ts';
import { SiteModel, type UpMessage } from './site-model.ts';

type Up = { id: number; message: UpMessage } | { id: null; message: { type: 'progress'; round: number } };
type Down = { receipt: ReceiptBody } | { ack: number };

interface Node {
  site: SiteModel;
  isLinkUp: boolean;
  isConnected: boolean;
  /** Since when the coordinator has not had it; of the coordinator's process. */
  offlineSince: number;
  /** Since when nothing has stood in the way of a connection. */
  reachableSince: number;
  /** It was away through its own fault since it was connected last. */
  isExcused: boolean;
  up: Up[];
  down: Down[];
  manifests: { manifest: ManifestBody; number: number }[];
}

export interface Settings {
  sites: number;
  quorum: number;
  participation: number;
  rounds: number;
}

/** Longest time after which a site is back when nothing stands in its way, and the grace that has to be longer. */
export const longestReconnectMs = 30_000;
export const offlineGraceMs = 40_000;
const roundDeadlineMs = 600_000;
const startMs = Date.parse('2026-11-22T12:00:00.000Z');
const baseConfig = defaultRunConfig({ baseId: 'base', baseSha256: '0'.repeat(64), classes: ['x', 'y'] });
const anyManifest = manifestOf(baseConfig, null, 0, null);

export class Network {
  now = startMs;
  readonly nodes: Node[];
  readonly coordinator: CoordinatorModel;
  readonly rules: RunRules;
  readonly found: string[] = [];
  private retained: { manifest: ManifestBody; number: number } | null = null;
  private manifests = 0;
  /** Ids that the running coordinator has seen: what it repeats is dropped there. */
  private seen = new Set<string>();

  constructor(settings: Settings) {
    this.rules = { ...baseConfig, ...settings, runId, offlineGraceMs, roundDeadlineMs };
    this.nodes = Array.from({ length: settings.sites }, (_, index) => this.createNode(`site-${index}`));
    this.coordinator = new CoordinatorModel(this.rules, {
      now: () => this.now,
      online: () => this.nodes.filter(({ isConnected }) => isConnected).map(({ site }) => site.siteId),
      offlineForMs: (siteId) => {
        const { isConnected, offlineSince } = this.nodeOf(siteId);
        return isConnected ? 0 : this.now - offlineSince;
      },
      answer: (siteId, receipt) => this.answer(siteId, receipt),
      publish: (manifest) => this.publish(manifest),
      beforeFreeze: (round) => this.checkFreeze(round),
    });
  }

  private createNode(siteId: string): Node {
    const node: Node = {
      site: new SiteModel(siteId, {
        canFetch: () => node.isConnected,
        progress: (round) => {
          if (node.isConnected) node.up.push({ id: null, message: { type: 'progress', round } });
        },
      }),
      ...{
        isLinkUp: true,
        isConnected: false,
        offlineSince: startMs,
        reachableSince: startMs,
        isExcused: false,
      },
      ...{ up: [], down: [], manifests: [] },
    };
    return node;
  }

  private readonly nodeOf = (siteId: string) => this.nodes.find(({ site }) => site.siteId === siteId)!;

  get isRunOver() {
    return isOver({ status: this.coordinator.status });
  }

  private answer(siteId: string, receipt: ReceiptBody): void {
    const { round, updateSha256, accepted, kind } = receipt;
    const record = this.coordinator.roundOf(round);
    const row = record?.sites.get(siteId);
    if (accepted && record?.counted.get(siteId) !== updateSha256)
      this.found.push(`${siteId} hears that round ${round} has its update, and the store does not know it`);
    const isKnown =
      row?.updateSha256 === updateSha256 ? row.status === 'rejected' : row?.status === 'received';
    if (!accepted && kind !== 'later' && record?.status !== 'closed' && !this.isRunOver && !isKnown)
      this.found.push(
        `${siteId} is refused for good, and round ${round} is ${record?.status ?? 'not open yet'}`,
      );
    const node = this.nodeOf(siteId);
    if (node.isConnected) node.down.push({ receipt });
  }

  private publish({ phase, round, stateSha256, participants }: PublishedManifest): void {
    const state = phase === 'waiting' ? null : { sha256: stateSha256, sizeBytes: 1, chunkBytes: 1024 };
    const manifest = { ...anyManifest, runId, phase, round, state, participants };
    this.retained = { manifest, number: this.manifests++ };
    for (const node of this.nodes) if (node.isConnected) node.manifests.push(this.retained);
  }

  /** An update that a member announced in time is waited for, unless the member itself was away. */
  private checkFreeze(round: number): void {
    const record = this.coordinator.roundOf(round)!;
    if (record.deadlineAt !== null && this.now >= Date.parse(record.deadlineAt)) return;
    for (const { site, isExcused } of this.nodes) {
      const own = site.rowOf(round);
      const status = record.sites.get(site.siteId)?.status;
      if (isExcused || site.declined.has(round) || !record.members.has(site.siteId)) continue;
      if (record.participants !== null && !record.participants.includes(site.siteId)) continue;
      // A withdrawal takes an update back; the coordinator may have taken it all the same.
      if (own?.status !== 'announced' || status === 'received' || status === 'rejected') continue;
      this.found.push(
        `round ${round} closed without the update that ${site.siteId} had announced (${status ?? 'no row'})`,
      );
    }
  }

  private disconnect(node: Node): void {
    if (!node.isConnected) return;
    Object.assign(node, { isConnected: false, offlineSince: this.now, up: [], down: [], manifests: [] });
    if (this.coordinator.isUp)
      this.happenAtCoordinator(() => this.coordinator.happen({ type: 'sites-changed' }));
  }

  /** After each thing that may have ended a process. */
  private happenAtCoordinator(work: () => void): void {
    work();
    if (!this.coordinator.isUp) this.coordinatorDied();
  }

  private coordinatorDied(): void {
    this.seen.clear();
    this.retained = null;
    for (const node of this.nodes)
      Object.assign(node, { isConnected: false, up: [], down: [], manifests: [] });
  }

  killCoordinator(): void {
    if (!this.coordinator.isUp) return;
    this.coordinator.die();
    this.coordinatorDied();
  }

  startCoordinator(): void {
    if (this.coordinator.isUp) return;
    for (const node of this.nodes) Object.assign(node, { offlineSince: this.now, reachableSince: this.now });
    this.coordinator.start();
  }

  /** The process of a site does something in which it may die. */
  atSite(index: number, work: (site: SiteModel) => void): void {
    const node = this.nodes[index]!;
    if (!node.site.isUp) return;
    work(node.site);
    if (!node.site.isUp) this.siteAway(node);
  }

  private siteAway(node: Node): void {
    node.isExcused = true;
    this.disconnect(node);
  }

  killSite(index: number): void {
    this.atSite(index, (site) => site.die());
  }

  startSite(index: number): void {
    const { site } = this.nodes[index]!;
    if (site.isUp) return;
    site.start();
    this.nodes[index]!.reachableSince = this.now;
  }

  setLink(index: number, isUp: boolean): void {
    const node = this.nodes[index]!;
    if (node.isLinkUp === isUp) return;
    node.isLinkUp = isUp;
    if (isUp) node.reachableSince = this.now;
    else this.siteAway(node);
  }

  connect(index: number): void {
    const node = this.nodes[index]!;
    if (node.isConnected || !node.isLinkUp || !node.site.isUp || !this.coordinator.isUp) return;
    Object.assign(node, { isConnected: true, isExcused: false });
    if (this.retained !== null) node.manifests.push(this.retained);
    this.flush(index);
    this.happenAtCoordinator(() => this.coordinator.happen({ type: 'sites-changed' }));
  }

  /** The outbox relay, at each connection and every few seconds. */
  flush(index: number): void {
    const { site, isConnected, up } = this.nodes[index]!;
    if (isConnected) up.push(...site.pending);
  }

  /** The first message of a queue arrives, or arrives and stays to arrive again. */
  deliver(index: number, queue: 'up' | 'down' | 'manifests', isTwice: boolean): void {
    const node = this.nodes[index]!;
    const [message] = node[queue];
    if (message === undefined) return;
    if (!isTwice) node[queue].shift();
    if (queue === 'manifests') {
      const { manifest, number } = message as Node['manifests'][number];
      this.atSite(index, (site) => site.receiveManifest(manifest, number));
    } else if (queue === 'down') {
      const down = message as Down;
      this.atSite(index, (site) =>
        'ack' in down ? site.acknowledge(down.ack) : site.receiveReceipt(down.receipt),
      );
    } else this.happenAtCoordinator(() => this.receive(node, message as Up));
  }

  private receive(node: Node, { id, message }: Up): void {
    const { siteId } = node.site;
    const { coordinator } = this;
    if (message.type === 'progress') coordinator.progressed(siteId, message.round);
    else if (message.type === 'announce') coordinator.announced(siteId, message.body);
    else {
      const key = `${siteId} ${id}`;
      const isNew = !this.seen.has(key);
      this.seen.add(key);
      const isTaken =
        message.type === 'evaluation'
          ? coordinator.evaluated(siteId, message.stateSha256)
          : !isNew || coordinator.declined(siteId, message.round);
      if (isTaken && node.isConnected) node.down.push({ ack: id! });
    }
  }

  /** A site does all that it can with what it has heard; what it says stays on its way. */
  stride(index: number): void {
    const node = this.nodes[index]!;
    for (const queue of ['manifests', 'down'] as const)
      for (let left = node[queue].length; left > 0; left--) this.deliver(index, queue, false);
    for (let step = 0; step < 6; step++) this.atSite(index, (site) => site.work());
    this.flush(index);
  }

  transfer(index: number): void {
    const [transfer] = this.coordinator.transfers.splice(
      index % Math.max(1, this.coordinator.transfers.length),
      1,
    );
    if (transfer === undefined) return;
    const { siteId, body } = transfer;
    const { site, isConnected } = this.nodeOf(siteId);
    // Given up; the site repeats its announcement.
    if (!isConnected || !site.serves(body.round, body.update.sha256)) return;
    this.happenAtCoordinator(() => this.coordinator.happen({ type: 'transferred', siteId, body }));
  }

  /** Second by second, as the coordinator looks at its clock. */
  wait(ms: number): void {
    for (let passed = 0; passed < ms; passed += 1_000) {
      this.now += 1_000;
      for (const [index, node] of this.nodes.entries())
        if (this.now - node.reachableSince >= longestReconnectMs) this.connect(index);
      if (this.coordinator.isUp && !this.isRunOver)
        this.happenAtCoordinator(() => this.coordinator.happen({ type: 'looked' }));
    }
  }

  pauseRun(isPaused: boolean): void {
    if (!this.coordinator.isUp) return;
    const since = new Date(this.now).toISOString();
    const pause = { kind: 'asked', failure: null, since, retryAt: null } as const;
    this.happenAtCoordinator(() =>
      this.coordinator.happen(isPaused ? { type: 'paused', pause } : { type: 'continued' }),
    );
  }

  violations(): string[] {
    return [
      ...this.found,
      ...this.coordinator.violations,
      ...this.nodes.flatMap(({ site }) => site.violations),
    ];
  }
}
