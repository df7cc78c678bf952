/** One hook per question to the agent. Events say when to ask again; the intervals are for a lost stream. */
import { keepPreviousData, useInfiniteQuery, useQuery } from '@tanstack/react-query';
import type {
  AdapterRow,
  AgentStatus,
  ApprovalCard,
  AuditPage,
  BackupState,
  CoordinatorOverview,
  ImagesView,
  Me,
  ModelsView,
  ProposalRow,
  RunDetail,
  RunPlan,
  SetAsideRow,
  SiteOverview,
  SitePolicyView,
  SiteRequests,
  SubjectRow,
  TraceReport,
} from '../../core/api/contract.ts';
import type { SubjectDetail, SubjectImage } from '../../core/api/subject-contract.ts';
import type { Device } from '../../core/engine/engine.ts';
import { api } from './client.ts';
import { type FormSettings, writtenSettings } from './run-settings.ts';

/** Query keys; the first word is what `events.ts` invalidates by. */
export const keys = {
  status: ['status'],
  devices: ['devices'],
  site: ['site'],
  requests: ['site', 'requests'],
  card: (contractSha256: string) => ['site', 'card', contractSha256] as const,
  policy: ['site', 'policy'],
  dataset: ['dataset'],
  subjects: (search: string) => ['dataset', 'subjects', search] as const,
  setAside: ['dataset', 'set-aside'],
  imageQuality: ['dataset', 'quality'],
  fhirOptions: ['consent', 'fhir'],
  subject: (pseudonym: string) => ['dataset', 'subject', pseudonym] as const,
  subjectImages: (pseudonym: string, page: number) => ['dataset', 'subject-images', pseudonym, page] as const,
  trace: (pseudonym: string) => ['trace', pseudonym] as const,
  coordinator: ['coordinator'],
  plan: (settings: FormSettings, sites: number) => ['plan', settings, sites] as const,
  run: (runId: string) => ['run', runId] as const,
  adapters: ['adapters'],
  audit: ['audit'],
  backups: ['backups'],
  models: ['models'],
  me: ['me'],
  users: ['people', 'users'],
  proposals: ['people', 'proposals'],
} as const;

type KeyOf<Entry> = Entry extends (...input: never[]) => infer Key ? Key : Entry;

/** First words of the query keys. */
export type KeyWord = Extract<KeyOf<(typeof keys)[keyof typeof keys]>, readonly unknown[]>[0];

const livelyMs = 5_000;
const calmMs = 30_000;

/** Milliseconds that an answer about one person is kept once no page shows it. */
const aboutOnePerson = 0;

export const useStatus = () =>
  useQuery<AgentStatus>({
    queryKey: keys.status,
    queryFn: () => api.status.query(),
    refetchInterval: livelyMs,
  });

/** Asked again by itself, so that a session that locked is seen; that is no sign of a person. */
export const useMe = () =>
  useQuery<Me>({ queryKey: keys.me, queryFn: () => api.people.me.query(), refetchInterval: 15_000 });

export const useUsers = () => useQuery({ queryKey: keys.users, queryFn: () => api.people.list.query() });

export const useBackups = () =>
  useQuery<BackupState>({
    queryKey: keys.backups,
    queryFn: () => api.backups.state.query(),
    refetchInterval: calmMs,
  });

export const useModels = () =>
  useQuery<ModelsView>({
    queryKey: keys.models,
    queryFn: () => api.models.list.query(),
    refetchInterval: calmMs,
  });

export const useProposals = () =>
  useQuery<ProposalRow[]>({
    queryKey: keys.proposals,
    queryFn: () => api.people.proposals.query(),
    refetchInterval: calmMs,
  });

export const useDevices = () =>
  useQuery<Device[]>({
    queryKey: keys.devices,
    queryFn: () => api.devices.query(),
    staleTime: Number.POSITIVE_INFINITY,
  });

const siteOverview = { queryKey: keys.site, queryFn: () => api.site.overview.query() };

export const useSiteOverview = () => useQuery<SiteOverview>({ ...siteOverview, refetchInterval: livelyMs });

/** The contract that waits for a person; events alone say when it changes. */
export const useWaitingContract = (enabled: boolean): string | null =>
  useQuery({
    ...siteOverview,
    enabled,
    select: ({ approval }: SiteOverview) => approval?.contractSha256 ?? null,
  }).data ?? null;

export const useSiteRequests = () =>
  useQuery<SiteRequests>({ queryKey: keys.requests, queryFn: () => api.site.requests.query() });

export const useCard = (contractSha256: string) =>
  useQuery<ApprovalCard>({
    queryKey: keys.card(contractSha256),
    queryFn: () => api.site.card.query({ contractSha256 }),
    retry: false,
  });

export const useSitePolicy = () =>
  useQuery<SitePolicyView>({ queryKey: keys.policy, queryFn: () => api.site.policy.query() });

export const useSubjects = (search: string) =>
  useQuery<SubjectRow[]>({
    queryKey: keys.subjects(search),
    queryFn: () => api.site.subjects.query(search === '' ? {} : { search }),
    placeholderData: keepPreviousData,
  });

export const useSetAside = () =>
  useQuery<SetAsideRow[]>({ queryKey: keys.setAside, queryFn: () => api.site.setAside.query() });

export const useImageQuality = () =>
  useQuery<ImagesView>({ queryKey: keys.imageQuality, queryFn: () => api.images.quality.query() });

export const useSubject = (pseudonym: string) =>
  useQuery<SubjectDetail>({
    queryKey: keys.subject(pseudonym),
    queryFn: () => api.subjects.get.query({ pseudonym }),
    gcTime: aboutOnePerson,
  });

/** Pictures come a page at a time. */
export const imagesPerPage = 24;

export const useSubjectImages = (pseudonym: string, page: number) =>
  useQuery<{ total: number; rows: SubjectImage[] }>({
    queryKey: keys.subjectImages(pseudonym, page),
    queryFn: () =>
      api.subjects.images.query({ pseudonym, offset: (page - 1) * imagesPerPage, limit: imagesPerPage }),
    placeholderData: keepPreviousData,
    gcTime: aboutOnePerson,
  });

export const useTrace = (pseudonym: string) =>
  useQuery<TraceReport>({
    queryKey: keys.trace(pseudonym),
    queryFn: () => api.rights.trace.query({ pseudonym }),
    gcTime: aboutOnePerson,
  });

export const useCoordinatorOverview = () =>
  useQuery<CoordinatorOverview>({
    queryKey: keys.coordinator,
    queryFn: () => api.coordinator.overview.query(),
    refetchInterval: livelyMs,
  });

export const useRunPlan = (settings: FormSettings, sites: number) =>
  useQuery<RunPlan>({
    queryKey: keys.plan(settings, sites),
    queryFn: () => api.coordinator.plan.query({ ...writtenSettings(settings), sites }),
    placeholderData: keepPreviousData,
    retry: false,
  });

export const useRun = (runId: string) =>
  useQuery<RunDetail>({
    queryKey: keys.run(runId),
    queryFn: () => api.coordinator.run.query({ runId }),
    refetchInterval: livelyMs,
  });

export const useAdapters = () =>
  useQuery<AdapterRow[]>({
    queryKey: keys.adapters,
    queryFn: () => api.adapters.query(),
    refetchInterval: calmMs,
  });

/** Newest first; each further page starts below the smallest number already shown. */
export const useAudit = () =>
  useInfiniteQuery({
    queryKey: keys.audit,
    queryFn: ({ pageParam }): Promise<AuditPage> =>
      api.audit.query(pageParam === null ? {} : { beforeSeq: pageParam }),
    initialPageParam: null as number | null,
    getNextPageParam: (last) => {
      const lowest = Math.min(...last.rows.map((row) => row.seq));
      return Number.isFinite(lowest) && lowest > 1 ? lowest : null;
    },
  });
