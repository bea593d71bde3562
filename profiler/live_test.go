package profiler
import ("testing";"context";"time";"log/slog";"os";"github.com/prometheus/client_golang/prometheus";"github.com/fleetprof/fleetprof/internal/procfs";"github.com/fleetprof/fleetprof/sample")
type ps struct{ n map[string]int; last map[string]*sample.Sample; lost uint64}
func (p *ps) Sample(s *sample.Sample){ k:=s.Process.Executable+"/"+s.Thread; p.n[k]++; p.last[k]=s }
func (p *ps) Lost(n uint64){p.lost+=n}
func TestLive(t *testing.T){
 s:=&ps{map[string]int{},map[string]*sample.Sample{},0}
 p,err:=New(Options{Frequency:99,Event:CPUClock,RingBytes:1<<20,CgroupSubsystem:4,Proc:procfs.New("/proc"),Sink:s,Logger:slog.New(slog.NewTextHandler(os.Stderr,nil)),Registerer:prometheus.NewRegistry()})
 if err!=nil{t.Fatal(err)}
 ctx,c:=context.WithTimeout(context.Background(),5*time.Second); defer c()
 if err:=p.Run(ctx);err!=nil{t.Fatal(err)}
 for k,n:=range s.n { t.Log(k,n); for i,l:=range s.last[k].Stack { if i<400 { t.Logf("    %s+%#x",l.Object.Path,l.Offset)} } }
 c2,_:=p.sampler.Counters(); t.Logf("%+v lost %d",c2,s.lost)
 if err:=p.Close();err!=nil{t.Fatal(err)}
}
