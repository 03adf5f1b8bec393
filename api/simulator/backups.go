package simulator

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator/internal/seeded"
)

const (
	backupRetention = 7 * 24 * time.Hour
	maxBackupsPage  = 100
)

// backups returns when the backups retained at t were made, newest first: one when the service
// was new, and one every day, at a time of day of its own.
func (v *service) backups(t time.Time) []time.Time {
	if v.firstBackup.IsZero() {
		return nil
	}
	end, retained := t, t.Add(-backupRetention)
	if !v.backupsEnd.IsZero() && v.backupsEnd.Before(end) {
		end = v.backupsEnd
	}
	var all []time.Time
	add := func(at time.Time) {
		if !at.After(end) && at.After(retained) {
			all = append(all, at.UTC().Truncate(time.Second))
		}
	}
	daily := retained.Truncate(24 * time.Hour).Add(time.Duration(seeded.Unit(seeded.Hash(v.Key, "backup")) * float64(24*time.Hour)))
	add(v.firstBackup)
	for ; !daily.After(end); daily = daily.Add(24 * time.Hour) {
		if daily.After(v.firstBackup) {
			add(daily)
		}
	}
	slices.Reverse(all)
	return all
}

// listBackups answers page by page. A read replica has no backups here; what the API answers for
// one is not documented. The total is best effort upstream; here, it is null for some services.
func (s *Simulator) listBackups(c *call) (any, error) {
	v, err := s.service(c)
	if err != nil {
		return nil, err
	}
	limit, err := c.number("limit", maxBackupsPage, 1, maxBackupsPage)
	if err != nil {
		return nil, err
	}
	all := v.backups(c.now)
	total := len(all)
	if cursor := c.URL.Query().Get("cursor"); cursor != "" {
		text, err := base64.RawURLEncoding.DecodeString(cursor)
		last, bad := strconv.ParseInt(string(text), 10, 64)
		if err != nil || bad != nil {
			return nil, badRequest("cursor must be the nextCursor of an answer")
		}
		all = slices.DeleteFunc(all, func(t time.Time) bool { return t.Unix() >= last })
	}
	type backup struct {
		Key          string `json:"key"`
		LastModified string `json:"lastModified"`
	}
	var page struct {
		Result     []backup `json:"result"`
		RequestID  string   `json:"requestId"`
		Status     int      `json:"status"`
		Limit      int      `json:"limit"`
		TotalCount *int     `json:"totalCount"`
		NextCursor *string  `json:"nextCursor"`
	}
	page.RequestID, page.Status, page.Limit = c.requestID, http.StatusOK, limit
	if v.Key%4 != 0 {
		page.TotalCount = &total
	}
	if len(all) > limit {
		all = all[:limit]
		next := base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(all[limit-1].Unix(), 10)))
		page.NextCursor = &next
	}
	page.Result = make([]backup, len(all))
	for i, t := range all {
		h := seeded.Hash(v.Key, "backup "+strconv.FormatInt(t.Unix(), 10))
		page.Result[i] = backup{
			Key:          fmt.Sprintf("basebackups_005/00000001%08X%08X_backup_stop_sentinel.json", uint32(h>>32), uint32(h)&0xff),
			LastModified: t.Format(time.RFC3339),
		}
	}
	return jsonAnswer(http.StatusOK, nil, page), nil
}
