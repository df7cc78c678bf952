import { Box, Center } from '@mantine/core';
import type { UseQueryResult } from '@tanstack/react-query';
import { lazy, Suspense } from 'react';
import { Redirect, Route, Router, Switch, useLocation } from 'wouter';
import { useHashLocation } from 'wouter/use-hash-location';
import type { AgentStatus, Me } from '../core/api/contract.ts';
import { useApprovalNotice } from './api/approval-notice.ts';
import { useAgentEvents } from './api/events.ts';
import { useSignsOfAPerson } from './api/me.ts';
import { useMe, useStatus } from './api/queries.ts';
import { useLocked } from './api/session.ts';
import { pseudonymOf } from './api/subject-link.ts';
import { AppFrame } from './components/app-frame.tsx';
import { ErrorPanel } from './components/error-panel.tsx';
import { Waiting } from './components/loaded.tsx';
import { AboutScreen } from './screens/about.tsx';
import { AccessCodeScreen } from './screens/access-code.tsx';
import { AdaptersScreen } from './screens/adapters.tsx';
import { AuditScreen } from './screens/audit.tsx';
import { BackupsScreen } from './screens/backups.tsx';
import { DatasetScreen } from './screens/dataset.tsx';
import { FirstRunScreen } from './screens/first-run.tsx';
import { ModelsScreen } from './screens/models.tsx';
import { PolicyScreen } from './screens/policy.tsx';
import { LetterScreen, RequestsScreen } from './screens/requests.tsx';
import { SignInScreen } from './screens/sign-in.tsx';
import { SiteOverviewScreen } from './screens/site-overview.tsx';
import { SubjectScreen } from './screens/subject.tsx';
import { UsersScreen } from './screens/users.tsx';

// The charts are half of the program; a site never loads them.
const CoordinatorOverviewScreen = lazy(() =>
  import('./screens/coordinator-overview.tsx').then((module) => ({
    default: module.CoordinatorOverviewScreen,
  })),
);
const RunScreen = lazy(() => import('./screens/run.tsx').then((module) => ({ default: module.RunScreen })));
const RunsScreen = lazy(() =>
  import('./screens/runs.tsx').then((module) => ({ default: module.RunsScreen })),
);

export function App() {
  const locked = useLocked();
  return locked ? <AccessCodeScreen /> : <Known />;
}

/** Nothing is asked before it is known who asks. */
function Known() {
  const me = useMe();
  if (me.data === undefined) return <Connecting query={me} />;
  return me.data.state === 'open' ? <Open me={me.data} /> : <SignInScreen me={me.data} />;
}

function Open({ me }: { me: Me }) {
  useSignsOfAPerson(me);
  return <Connected />;
}

function Connecting({ query }: { query: Pick<UseQueryResult, 'isError' | 'error' | 'refetch'> }) {
  return (
    <Center mih="100vh" p="xl">
      {query.isError ? (
        <Box maw={520}>
          <ErrorPanel error={query.error} onRetry={() => void query.refetch()} />
        </Box>
      ) : (
        <Waiting />
      )}
    </Center>
  );
}

function Connected() {
  const status = useStatus();
  if (status.data === undefined) return <Connecting query={status} />;
  return <WithEvents status={status.data} lost={status.isError ? status.error : null} />;
}

/** Mounted once the agent has answered, so that the event stream starts within the session. */
function WithEvents({ status, lost }: { status: AgentStatus; lost: unknown }) {
  useAgentEvents();
  const waiting = useApprovalNotice(status.mode === 'site');
  if (status.mode === 'unset') return <FirstRunScreen status={status} />;
  return (
    <Router hook={useHashLocation}>
      <AppFrame status={status} requests={waiting === null ? 0 : 1}>
        {lost != null && (
          <Box mb="lg">
            <ErrorPanel error={lost} />
          </Box>
        )}
        <Suspense fallback={<Waiting />}>
          <Screens status={status} />
        </Suspense>
      </AppFrame>
    </Router>
  );
}

function RoutedModels({ isAdding }: { isAdding: boolean }) {
  const [, navigate] = useLocation();
  return (
    <ModelsScreen
      isAdding={isAdding}
      onAdding={(adding) => navigate(adding ? '/models/import' : '/models')}
    />
  );
}

function Screens({ status }: { status: AgentStatus }) {
  const site = status.mode === 'site';
  return (
    <Switch>
      <Route path="/">
        {site ? <SiteOverviewScreen status={status} /> : <CoordinatorOverviewScreen status={status} />}
      </Route>
      {site && (
        <Route path="/dataset/subject/:address">
          {({ address }) => <SubjectScreen pseudonym={pseudonymOf(address)} />}
        </Route>
      )}
      {site && <Route path="/dataset/:tab?">{({ tab }) => <DatasetScreen tab={tab} />}</Route>}
      {site && <Route path="/requests" component={RequestsScreen} />}
      {site && (
        <Route path="/requests/:contract">
          {({ contract }) => <LetterScreen contractSha256={contract} />}
        </Route>
      )}
      {site && (
        <Route path="/policy">
          <PolicyScreen status={status} />
        </Route>
      )}
      {!site && <Route path="/runs" component={RunsScreen} />}
      {!site && <Route path="/runs/:runId">{({ runId }) => <RunScreen runId={runId} />}</Route>}
      <Route path="/models/:page?">{({ page }) => <RoutedModels isAdding={page === 'import'} />}</Route>
      <Route path="/adapters" component={AdaptersScreen} />
      <Route path="/users" component={UsersScreen} />
      <Route path="/audit" component={AuditScreen} />
      <Route path="/backups" component={BackupsScreen} />
      <Route path="/about">
        <AboutScreen status={status} />
      </Route>
      <Route>
        <Redirect to="/" />
      </Route>
    </Switch>
  );
}
