package main

import "time"

// Scheduler runs jobs at fixed times, like cron.
type Scheduler struct {
	jobs map[string]time.Time
}

// NextRun says when a job is due.
func (s *Scheduler) NextRun(name string) time.Time {
	return s.jobs[name]
}

// RunPending starts everything whose time has come.
func (s *Scheduler) RunPending(now time.Time, run func(string)) {
	for name, due := range s.jobs {
		if !now.Before(due) {
			run(name)
		}
	}
}
